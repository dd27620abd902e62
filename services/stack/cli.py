"""`perception up`, `status`, `down` and `run`: the whole system on one machine."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.stack.cameras import watch_live
from services.stack.frames import Source, SourceError
from services.stack.keeper import Keeper, read_status
from services.stack.layout import PROJECT, Ports, tasks_in
from services.stack.run import perceive_sources, print_result
from services.stack.session import Engine, StackOptions, measure, quality, running, samples
from services.stack.supervisor import StackError

console = Console(emoji=False)

Profile = Annotated[str, typer.Option(help="Which models and categories: a file of models/profiles.")]
PortBase = Annotated[int, typer.Option(min=1024, max=65000, help="Port of the gateway; the rest takes those after it.")]
EngineOption = Annotated[Engine, typer.Option(help="Where models run; auto: Triton where its binary runs.")]

_CHECK_SECONDS = 1.0
_NEXT_STACK = 100
"""Ports from one stack's base to the next one's."""


def up(
    profile: Profile = "demo",
    port_base: PortBase = 50050,
    engine: EngineOption = "auto",
    detach: Annotated[bool, typer.Option(help="Return once the stack serves, and leave it running.")] = False,
    cameras: Annotated[bool, typer.Option(help="With the profile's cameras, which keep a small machine busy.")] = True,
) -> None:
    """Bring the system up with the profile's cameras and the page that shows them, and print the addresses.

    A process that dies or hangs is started again, which `perception status` and the log tell of.
    """
    options = StackOptions(profile, engine, port_base, with_cameras=cameras)
    if detach:
        _leave_running(options)
        return
    # The announcement ends after the stack, so that whoever waits for its end finds the ports free.
    with (
        _reporting_errors(),
        _announcement(options) as announce,
        running(options, console, watched=True) as supervisor,
    ):
        keeper = Keeper(supervisor, _log, _status_file(options))
        announce()
        _print_addresses(options)
        while True:
            time.sleep(_CHECK_SECONDS)
            keeper.look()


def down(port_base: PortBase = 50050) -> None:
    """Stop a system that `perception up --detach` left running."""
    state = _state(StackOptions("", "auto", port_base))
    supervisor = _supervisor(state)
    if supervisor is None:
        console.print(f"no stack runs on port {port_base}")
        return
    os.kill(supervisor, signal.SIGTERM)
    with console.status("stopping"):
        while _supervisor(state) is not None:
            time.sleep(0.1)
    console.print("stopped")


def status(port_base: PortBase = 50050) -> None:
    """Show the processes of a system that `perception up` keeps running, and how often each was started again."""
    options = StackOptions("", "auto", port_base)
    if _supervisor(_state(options)) is None:
        console.print(f"no stack runs on port {port_base}")
        raise typer.Exit(1)
    table = Table(title=f"Perception on port {port_base}")
    for column in ("process", "pid", "state", "since", "restarts", "last end"):
        table.add_column(column)
    for found in read_status(_status_file(options)):
        table.add_row(found.name, str(found.pid), found.state, found.since, str(found.restarts), found.reason)
    console.print(table)


def run(
    profile: Profile = "demo",
    source: Annotated[Path | None, typer.Option(help="Image, folder or video file; default: the samples.")] = None,
    output: Annotated[Path, typer.Option(help="Where overlays and scenes.jsonl go.")] = Path("out"),
    camera_seconds: Annotated[
        float, typer.Option(min=0, help="How long the profile's cameras are watched live, if no source is named.")
    ] = 10.0,
    port_base: PortBase = 50050,
    engine: EngineOption = "auto",
) -> None:
    """Bring the system up, perceive frames and live cameras, write overlays, films and JSON, and take it down again."""
    options = StackOptions(profile, engine, port_base)
    with _reporting_errors():
        made = (output / "samples").resolve()
        paths = [source] if source else samples(profile, made)
        sources = [Source.open(path) for path in paths]
        with running(options, console):
            ports = Ports(port_base)
            result = perceive_sources(f"127.0.0.1:{ports.gateway}", sources, output, console)
            cameras = {} if source else options.cameras
            live = (
                watch_live(cameras, camera_seconds, ports, output / "cameras", console)
                if cameras and camera_seconds
                else None
            )
        # Samples that are made on the spot come with their truth.
        has_truth = not source and not result.failed and all(path.is_relative_to(made) for path in paths)
        judged = quality(made, output) if has_truth else None
        print_result(result, judged, output, console)
        if live:
            console.print(live)
    raise typer.Exit(1 if result.failed else 0)


def evaluate(
    profile: Profile = "demo",
    beside: Annotated[list[str] | None, typer.Option(help="A profile to measure on the same frames.")] = None,
    output: Annotated[Path, typer.Option(help="The results go into the profile's folder in here.")] = Path(
        "out/evaluation"
    ),
    port_base: PortBase = 50050,
    engine: EngineOption = "auto",
) -> None:
    """Bring the system up, measure it and each of its models against known truth, and take it down again.

    Exit status 1 where a metric is worse than the catalogue expects.
    """
    stacks = [
        StackOptions(name, engine, port_base + _NEXT_STACK * n) for n, name in enumerate([profile, *(beside or [])])
    ]
    with _reporting_errors(), ExitStack() as running_stacks:
        for options in stacks:
            running_stacks.enter_context(running(options, console))
        status = measure(stacks, output)
    raise typer.Exit(status)


def _leave_running(options: StackOptions) -> None:
    """Starts `perception up` in a session of its own and waits until it serves."""
    options.run_directory.mkdir(parents=True, exist_ok=True)
    state = _state(options)
    if _supervisor(state) is not None:
        console.print(f"[red]a stack already runs on port {options.port_base}: `perception down` stops it")
        raise typer.Exit(1)
    output = options.run_directory / "up.log"
    command = [sys.executable, "-m", "services.cli", "up", "--profile", options.profile, "--engine", options.engine]
    command += [] if options.with_cameras else ["--no-cameras"]
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port-base", str(options.port_base)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with console.status("starting the stack"):
            while process.poll() is None and not state.is_file():
                time.sleep(0.1)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    if process.poll() is not None:
        console.print(output.read_text(), markup=False, highlight=False)
        raise typer.Exit(1)
    _print_addresses(options)


def _state(options: StackOptions) -> Path:
    return options.run_directory / "stack.json"


def _status_file(options: StackOptions) -> Path:
    return options.run_directory / "processes.json"


def _log(sentence: str) -> None:
    """A line of the running stack; `up --detach` keeps them in up.log."""
    console.print(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {sentence}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _announcement(options: StackOptions) -> Iterator[Callable[[], object]]:
    """Prepares the file that says which process to stop; calling what it gives shows the file to others.

    The file stays locked while this process lives, because the id alone may be another process's by tomorrow.
    """
    state = _state(options)
    draft = state.with_name(f"{state.name}.{os.getpid()}")
    draft.parent.mkdir(parents=True, exist_ok=True)
    with draft.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump({"pid": os.getpid(), "profile": options.profile}, file)
        file.flush()
        try:
            yield lambda: draft.rename(state)
        finally:
            shown = not draft.exists()
            (state if shown else draft).unlink(missing_ok=True)


def _supervisor(state: Path) -> int | None:
    """Process id of the running stack that the file speaks of; a file left by a killed one is cleared away."""
    try:
        with state.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pid: int = json.load(file)["pid"]
                return pid
            state.unlink(missing_ok=True)
    except FileNotFoundError:
        pass
    return None


def _print_addresses(options: StackOptions) -> None:
    ports = Ports(options.port_base)
    cameras = options.cameras
    table = Table(title=f"Perception, profile {options.profile}")
    for column in ("service", "gRPC", "metrics"):
        table.add_column(column)
    table.add_row("gateway", f"127.0.0.1:{ports.gateway}", f"http://127.0.0.1:{ports.metrics('gateway')}/metrics")
    for task in tasks_in(options.repository):
        table.add_row(task, f"127.0.0.1:{ports.task(task)}", f"http://127.0.0.1:{ports.metrics(task)}/metrics")
    triton = ports.triton
    table.add_row("triton", f"127.0.0.1:{triton.grpc}", f"http://127.0.0.1:{triton.metrics}/metrics")
    if cameras:
        table.add_row("camera", f"127.0.0.1:{ports.camera}", f"http://127.0.0.1:{ports.metrics('camera')}/metrics")
    table.add_row("viewer", "", f"http://127.0.0.1:{ports.metrics('viewer')}/metrics")
    console.print(table)
    watching = ", ".join(cameras) or "no cameras, but pictures can be dropped there"
    console.print(f"[bold]watch http://127.0.0.1:{ports.viewer}[/] in a browser: {watching}")
    console.print(f"logs: {options.run_directory / 'logs'}; stop with: make down PORT_BASE={options.port_base}")


@contextmanager
def _reporting_errors() -> Iterator[None]:
    """Ends the program with a readable message for what can go wrong, and quietly on Ctrl-C."""
    try:
        yield
    except (StackError, SourceError, OSError) as error:
        console.print(f"[red]{escape(str(error))}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("stopped")
        raise typer.Exit(130) from None
