"""The whole path against the models alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

from loadtest.bench.floor import floor, write_inputs
from loadtest.bench.frames import frames_for
from loadtest.bench.pairs import Measured, Samples
from loadtest.bench.result import Comparison, Findings, Plot, Table, bars
from loadtest.bench.run import Run
from loadtest.bench.system import System, system
from loadtest.bench.worker import WorkerError
from loadtest.plan import Closed
from loadtest.result import Result
from loadtest.sources import Frames
from services.stack.layout import TASKS
from services.stack.supervisor import StackError

PROFILES = ("demo", "coco")
OPENVINO = "demo_openvino"
"""Its floor is the same models in OpenVINO: the faster the models, the more all else counts."""
RUNTIMES = ("onnxruntime", "openvino f32", "openvino bf16")
_IN_FLIGHT = 6
"""Frames at work at once: enough that no process of the path ever waits for the next one."""
_STACK, _FLOOR, _SEQUENCE = "whole path", "floor", "floor, one model after another"
_STAGES = ("decode", "preprocess", "postprocess")

ABOUT = f"""\
The **whole path** is the real system (gateway, task services, Triton with a process for each model, fusion, maps as
PNG) at saturation: {_IN_FLIGHT} callers, each of which sends its next 1080p JPEG when it has the scene of the last one.
The **floor** is one process in Triton's own environment that runs the same ONNX files with the same runtime, session
options and number of threads, in the same order for each frame (detection and segmentation side by side, then
classification), with as many frames at work at once, on tensors that lie in memory already: resized, cropped, batched.
Nothing is decoded, sent, received, filtered, fused or encoded there. The floor that runs **one model after another**,
each on all cores, is another way to use the machine, and shows which of the two is the higher mark here. CPU time is
that of all processes of the system; the caller's own, which shares the cores, is in the table and not in the ratio.
While the floor runs, the system waits, and asks its models every ten seconds whether they live."""


def measure(run: Run) -> Findings:
    """Measures every profile that can run here."""
    comparisons: list[Comparison] = []
    tables: list[Table] = []
    plots: list[Plot] = []
    values: dict[str, float] = {}
    spreads: dict[str, tuple[float, float]] = {}
    notes: list[str] = []
    for profile in run.pick((*PROFILES, OPENVINO), PROFILES):
        try:
            found = _measure_profile(run, profile)
        except StackError as error:
            notes.append(f"Profile `{profile}` was not measured: {error}")
            continue
        comparisons += found.comparisons
        tables += found.tables
        plots += found.plots
        values |= found.values
        spreads |= found.spreads
        notes += found.notes
    if not comparisons:
        raise StackError(" ".join(notes))
    ratios = bars(
        "overhead",
        "By the floor's",
        comparisons,
        [f"{each.case}: {each.first}, {each.quantity}" for each in comparisons],
    )
    return Findings(
        about=ABOUT,
        comparisons=tuple(comparisons),
        tables=tuple(tables),
        plots=(ratios, *plots),
        values=values,
        spreads=spreads,
        notes=tuple(notes),
    )


def _measure_profile(run: Run, profile: str) -> Findings:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        frames = stack.enter_context(frames_for(profile))
        running = stack.enter_context(system(run, profile))
        inputs = folder / "inputs.npz"
        with run.progress(f"{profile}: the models' inputs", len(frames.paths)) as advance:
            calls = write_inputs(running, frames, inputs, advance)
        with run.progress(f"{profile}: loading the floor", 1) as advance:
            own = stack.enter_context(floor(running.repository, inputs, folder / "floor.log"))
            advance()
        path = _Path(run, running, frames)
        seconds = run.pick(6.0, 3.0)
        arms: dict[str, Callable[[], Measured]] = {
            _STACK: path.saturate,
            _FLOOR: lambda: own.ask({"run": seconds, "in_flight": _IN_FLIGHT}),
            _SEQUENCE: lambda: own.ask({"run": seconds, "in_flight": 0}),
        }
        samples = run.interleave(f"{profile}: whole path and floor", arms, run.pick(4, 2))
        alone = path.one_at_a_time()
        by_model = own.ask({"each": run.pick(3, 1)})
        runtimes, notes = _compare_runtimes(run, running, inputs, folder) if profile in PROFILES else ([], [])
    return Findings(
        about="",
        comparisons=(*_ratios(profile, samples), *runtimes),
        tables=(_where_it_goes(profile, samples, alone, by_model, calls),),
        plots=(_stacked(profile, samples),),
        values=_values(profile, samples, alone),
        spreads=_spreads(profile, samples, alone),
        notes=tuple(notes),
    )


class _Path:
    """The whole path as an arm."""

    def __init__(self, run: Run, running: System, frames: Frames) -> None:
        self._run = run
        self._system = running
        self._frames = frames

    def saturate(self) -> Measured:
        """Frames a second, and CPU time of a frame in ms by process, in all, and of the caller."""
        result = self._drive(_IN_FLIGHT)
        by_process = {used.name: used.cpu_seconds * 1e3 / result.answered for used in result.processes}
        caller = result.client.busiest_core_share * result.plan.seconds * 1e3 / result.answered
        return {**by_process, "cpu": sum(by_process.values()), "caller": caller, "throughput": result.throughput}

    def one_at_a_time(self) -> dict[str, float]:
        """Median time of every stage in ms while a single frame is at work."""
        stages = self._drive(1).stages
        return {name: times.p50 * 1e3 for name, times in stages.items()}

    def _drive(self, clients: int) -> Result:
        seconds = self._run.pick(6.0, 3.0)
        result = self._system.drive(Closed(clients=clients), self._frames, seconds)
        if result.failed or result.partial or not result.answered:
            lacking = f"{result.answered} answers, {result.failed} errors, {result.partial} answers that lack a task's"
            raise StackError(f"{lacking} in {seconds:g} s")
        return result


def _compare_runtimes(run: Run, running: System, inputs: Path, folder: Path) -> tuple[list[Comparison], list[str]]:
    """The floors of all runtimes that run here against ONNX Runtime's, and why the others do not."""
    profile, notes = running.profile, []
    with ExitStack() as stack:
        arms: dict[str, Callable[[], Measured]] = {}
        with run.progress(f"{profile}: loading the runtimes", len(RUNTIMES)) as advance:
            for runtime in RUNTIMES:
                try:
                    worker = stack.enter_context(floor(running.repository, inputs, folder / f"{runtime}.log", runtime))
                    arms[runtime] = partial(worker.ask, {"run": run.pick(3.0, 1.5), "in_flight": _IN_FLIGHT})
                except WorkerError as error:
                    reason = str(error).splitlines()[-1].strip()
                    notes.append(f"The models of `{profile}` were not measured in {runtime}: {reason}")
                advance()
        samples = run.interleave(f"{profile}: runtimes", arms, run.pick(4, 2))
    first, *others = arms
    compared = (_both(profile, samples, each, first, f"{profile}.{each.replace(' ', '_')}") for each in others)
    return list(chain.from_iterable(compared)), notes


def _ratios(profile: str, samples: Samples) -> list[Comparison]:
    return [
        *_both(profile, samples, _STACK, _FLOOR, profile),
        *_both(profile, samples, _STACK, _SEQUENCE, f"{profile}.sequence"),
    ]


def _both(profile: str, samples: Samples, first: str, second: str, id: str) -> list[Comparison]:
    return [
        Comparison.of(
            samples, first, second, "throughput", id=f"{id}.throughput", case=profile, quantity="frames/s", unit="1/s"
        ),
        Comparison.of(
            samples, first, second, "cpu", id=f"{id}.cpu", case=profile, quantity="CPU time per frame", unit="ms"
        ),
    ]


def _processes(samples: Samples) -> dict[str, float]:
    """CPU time of a frame in ms by process, in the order of the path."""
    order = ["gateway", *TASKS, "tritonserver", *(f"triton {task}" for task in TASKS)]
    return {name: median(samples[_STACK][name]) for name in order if name in samples[_STACK]}


def _where_it_goes(
    profile: str,
    samples: Samples,
    alone: Mapping[str, float],
    by_model: Mapping[str, float],
    calls: Mapping[str, float],
) -> Table:
    """The whole path's CPU time, process by process and stage by stage, beside the floor's."""
    rows = [(name, f"{cpu:.1f}", _part_of(name, alone, by_model, calls)) for name, cpu in _processes(samples).items()]
    return Table(
        title=f"Where the CPU time of a frame goes with `{profile}`, ms",
        columns=("process", "at saturation", "of which"),
        rows=(
            *rows,
            ("**all of them**", f"**{median(samples[_STACK]['cpu']):.1f}**", ""),
            ("**floor**", f"**{median(samples[_FLOOR]['cpu']):.1f}**", ""),
            ("the caller, beside the system", f"{median(samples[_STACK]['caller']):.1f}", ""),
        ),
        note="Stages are wall time while a single frame is at work. What a service takes beyond them is gRPC, "
        "protobuf, the event loop, metrics and logs.",
    )


def _part_of(
    process: str, alone: Mapping[str, float], by_model: Mapping[str, float], calls: Mapping[str, float]
) -> str:
    """What is known of a process's time: its stages, or its model without anything around it."""
    task = process.removeprefix("triton ")
    if process.startswith("triton "):
        return f"the model by itself {by_model[task]:.1f}, in {calls[task]:.2g} calls"
    stages = ("decode", "fuse", "encode") if process == "gateway" else _STAGES
    times = {stage: alone.get(f"{process}.{stage}") for stage in stages}
    return ", ".join(f"{stage} {time:.1f}" for stage, time in times.items() if time is not None)


def _stacked(profile: str, samples: Samples) -> Plot:
    processes = _processes(samples)
    models = sum(processes.pop(name) for name in [*processes] if name.startswith("triton "))
    return Plot(
        name=f"overhead-{profile}",
        title=f"CPU time of a frame with {profile}",
        kind="stack",
        label_axis="",
        value_axis="ms of CPU time per frame",
        labels=("whole path", "floor"),
        series={
            "models": (models, median(samples[_FLOOR]["cpu"])),
            **{name: (cpu, None) for name, cpu in processes.items()},
        },
    )


def _values(profile: str, samples: Samples, alone: Mapping[str, float]) -> dict[str, float]:
    gateway = median(samples[_STACK]["gateway"])
    return {f"{profile}.gateway_ms": gateway, f"{profile}.gateway_beyond_ms": gateway - _decoding_and_fusion(alone)}


def _spreads(profile: str, samples: Samples, alone: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """From where to where the rounds put `_values`."""
    gateway = samples[_STACK]["gateway"]
    low, high = min(gateway), max(gateway)
    within = _decoding_and_fusion(alone)
    return {f"{profile}.gateway_ms": (low, high), f"{profile}.gateway_beyond_ms": (low - within, high - within)}


def _decoding_and_fusion(alone: Mapping[str, float]) -> float:
    """What a frame takes at the gateway in ms that is its task: the one decoding for all services, and fusion."""
    return alone["gateway.decode"] + alone["gateway.fuse"]
