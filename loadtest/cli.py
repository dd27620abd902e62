"""`perception loadtest`: drive a running system and say how it did."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from loadtest.knee import Measure
    from loadtest.plan import Load, Plan
    from loadtest.result import Result

app = typer.Typer(
    help="Load: drive a running system, and say how it did. docs/performance.md defines every number. "
    "TLS and the token for the gateway are set by environment variables: docs/security.md.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

Rate = Annotated[float, typer.Option(min=0.001, max=1e6, help="Frames a second.")]
Arrivals = Annotated[Literal["poisson", "fixed"], typer.Option(help="When frames come: at random, or evenly.")]
Cameras = Annotated[int, typer.Option(min=1, max=100_000, help="Cameras, each with a stream of its own.")]
Clients = Annotated[int, typer.Option(min=1, max=100_000, help="Clients, each with one frame at a time.")]
Deadline = Annotated[float | None, typer.Option(min=0.001, help="Seconds from capture to answer; the gateway's own.")]
InFlight = Annotated[int | None, typer.Option(min=1, help="Frames of a stream at work at once; the gateway's own.")]
Track = Annotated[bool, typer.Option(help="Whether things keep an identity.")]
Results = Annotated[list[Path], typer.Argument(help="What earlier runs wrote, to be shown beside each other.")]


@dataclass(frozen=True)
class Common:
    """What every kind of load can be told."""

    address: Annotated[str, typer.Option(help="The gateway's address.")] = "localhost:50050"
    source: Annotated[str, typer.Option(help="Picture, folder, film, or scenes:street?seed=1&length=50.")] = (
        "scenes:street"
    )
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long is measured.")] = 30.0
    warmup: Annotated[float, typer.Option(min=0, max=3600, help="Seconds before that which do not count.")] = 3.0
    processes: Annotated[int, typer.Option(min=0, max=256, help="Client processes; 0: a quarter of the cores.")] = 0
    timeout: Annotated[float, typer.Option(min=0.001, max=3600, help="Seconds until a frame is given up.")] = 30.0
    task: Annotated[list[str] | None, typer.Option(help="A task to ask for, more than once for more; all.")] = None
    resolution: Annotated[Literal["frame", "model"], typer.Option(help="Grid of the maps in the answers.")] = "frame"
    seed: Annotated[int, typer.Option(min=0, help="Of random arrivals.")] = 0
    pid: Annotated[
        list[int] | None,
        typer.Option(help="A process to watch with all that it started; else those of `perception up` at that port."),
    ] = None
    metrics: Annotated[list[str] | None, typer.Option(help="URL of a /metrics to watch.")] = None
    output: Annotated[Path | None, typer.Option(help="JSON to write, with the report beside it as .html.")] = None

    def plan(self, load: Load) -> Plan:
        """The plan of a load. Raises `LoadError` where the environment does not say who calls."""
        from perception.caller import Caller

        from loadtest.client_processes import LoadError
        from loadtest.plan import Plan

        try:
            caller = Caller.of_environment()
        except ValueError as error:
            raise LoadError(str(error)) from None
        plan = Plan(
            address=self.address,
            caller=caller,
            load=load,
            seconds=self.seconds,
            warmup_seconds=self.warmup,
            timeout_seconds=self.timeout,
            tasks=tuple(self.task or ()),
            resolution=self.resolution,
            seed=self.seed,
        )
        return plan.model_copy(update={"processes": self.processes}) if self.processes else plan


def _command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command: its own options, and after them the common ones, which it gets first as `Common`."""
    shared = [field.name for field in fields(Common)]

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**options: object) -> None:
            common = Common(**{key: options.pop(key) for key in shared})  # type: ignore[arg-type]
            with _reporting_errors():
                function(common, **options)

        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        parameters = [*own, *inspect.signature(Common, eval_str=True).parameters.values()]
        as_keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        command.__signature__ = inspect.Signature(as_keywords)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in as_keywords}
        del command.__dict__["__wrapped__"]
        app.command(name)(command)
        return function

    return register


@_command("open")
def open_loop(common: Common, rate: Rate, arrivals: Arrivals = "poisson") -> None:
    """Send frames at a rate, whether the system keeps up or not."""
    from loadtest.plan import Open

    _measure_one(common, Open(rate=rate, arrivals=arrivals))


@_command("closed")
def closed_loop(common: Common, clients: Clients = 4) -> None:
    """Send from clients that each wait for an answer before the next frame: what the system gives at most."""
    from loadtest.plan import Closed

    _measure_one(common, Closed(clients=clients))


@_command("streams")
def streams(
    common: Common,
    cameras: Cameras = 4,
    rate: Rate = 5.0,
    arrivals: Arrivals = "fixed",
    deadline: Deadline = None,
    in_flight: InFlight = None,
    track: Track = True,
) -> None:
    """Send the streams of cameras, each at a rate."""
    from loadtest.plan import Streams

    _measure_one(
        common,
        Streams(
            cameras=cameras,
            rate=rate,
            arrivals=arrivals,
            deadline_seconds=deadline,
            max_in_flight=in_flight,
            track=track,
        ),
    )


@_command("knee")
def knee(
    common: Common,
    percent: Annotated[float, typer.Option(min=1, max=100, help="So many percent of the scenes")] = 99.0,
    within: Annotated[float, typer.Option(min=0.001, help="come within so many seconds of when they were due,")] = 1.0,
    missed: Annotated[float, typer.Option(min=0, max=1, help="and this share of frames has no whole scene.")] = 0.01,
    start: Annotated[float | None, typer.Option(min=0.001, help="Where to begin; half of what a closed loop gets.")] = (
        None
    ),
    precision: Annotated[float, typer.Option(min=0.005, max=1, help="How closely the knee is sought.")] = 0.1,
    arrivals: Arrivals = "poisson",
    camera_rate: Annotated[
        float | None, typer.Option(min=0.001, help="Vary the number of cameras of this rate, not an open loop's rate.")
    ] = None,
) -> None:
    """Find the highest load that holds an objective. Every step is a measurement of --seconds."""
    from loadtest.knee import Objective, find_knee
    from loadtest.plan import Open, Streams
    from loadtest.tables import knee_line, step_line

    load = Streams(cameras=1, rate=camera_rate, arrivals=arrivals) if camera_rate else Open(rate=1, arrivals=arrivals)
    objective = Objective(percent=percent, seconds=within, missed_share=missed)
    output = _output(common, "knee")
    console.print(f"objective: {objective}")
    with _measuring(common) as measure:
        found = find_knee(
            common.plan(load),
            objective,
            measure,
            start=start,
            precision=precision,
            show=lambda step: console.print(step_line(step), soft_wrap=True),
        )
    console.print(knee_line(found), soft_wrap=True)
    _write(found.model_dump_json(indent=1), output)


@app.command()
def report(
    results: Results,
    output: Annotated[Path, typer.Option(help="The HTML to write.")] = Path("out/loadtest/report.html"),
) -> None:
    """Show earlier runs in one HTML file, beside each other."""
    with _reporting_errors():
        from loadtest.report import read, write_report

        write_report([read(path) for path in results], output)
    console.print(f"{output}")


_FOLDER = Path("out/loadtest")


def _measure_one(common: Common, load: Load) -> None:
    from loadtest.tables import summary

    output = _output(common, load.kind)
    with _measuring(common) as measure:
        result = measure(common.plan(load))
    console.print(summary(result))
    _write(result.model_dump_json(indent=1), output)


def _output(common: Common, name: str) -> Path:
    """Where the result goes: a folder that cannot be written to is known before the measurement."""
    path = common.output or _FOLDER / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _measuring(common: Common) -> Iterator[Measure]:
    """Makes measurements of a system with the same frames, and shows them as they go on."""
    from loadtest.run import measure
    from loadtest.sources import frames_of
    from loadtest.tables import watching
    from loadtest.watched import Watched, stack_of

    watched = Watched(common.pid or stack_of(common.address), common.metrics or ())
    with ExitStack() as stack:
        with console.status(f"reading {common.source}"):
            frames = stack.enter_context(frames_of(common.source))

        def measure_one(plan: Plan) -> Result:
            with watching(console) as show:
                return measure(plan, frames, watched, show)

        yield measure_one


def _write(result: str, path: Path) -> None:
    from loadtest.report import read, write_report

    path.write_text(result)
    with console.status("drawing the report"):
        write_report([read(path)], path.with_suffix(".html"))
    console.print(f"{path}, {path.with_suffix('.html')}")


@contextmanager
def _reporting_errors() -> Iterator[None]:
    """Ends the program with a sentence for what can go wrong, and quietly on Ctrl-C."""
    try:
        import hdrh  # noqa: F401
        import matplotlib  # noqa: F401
        import psutil  # noqa: F401
        from pydantic import ValidationError
    except ModuleNotFoundError as error:
        raise _exit(f"load tests need the package {error.name}: pip install 'perception-services[loadtest]'") from None
    from loadtest.client_processes import LoadError
    from loadtest.report import ReportError
    from loadtest.sources import SourceError
    from loadtest.watched import WatchError

    try:
        yield
    except (LoadError, SourceError, WatchError, ReportError, ValidationError, OSError) as error:
        raise _exit(str(error)) from None
    except KeyboardInterrupt:
        errors.print("stopped")
        raise typer.Exit(130) from None


def _exit(message: str) -> typer.Exit:
    errors.print(f"[red]{escape(message)}", soft_wrap=True)
    return typer.Exit(1)
