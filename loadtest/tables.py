"""Measurements on a terminal: as they go on, and when they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from loadtest.knee import Knee, Step
from loadtest.plan import Plan, describe
from loadtest.result import Distribution, Result, services_of
from loadtest.run import Progress

_STAGES = ("decode", "preprocess", "inference", "postprocess", "fuse", "encode", "total", "call")
_LINE_SECONDS = 5
"""Between two lines where there is no terminal."""
_RECENT = 5
_MEBIBYTE = 2**20


@contextmanager
def watching(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Shows a measurement as a table that changes; where there is no terminal, as a line every few seconds."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        told = 0.0

        def show(progress: Progress) -> None:
            nonlocal told
            if console.is_terminal:
                live.update(_live_table(progress), refresh=True)
            elif progress.seconds - told >= _LINE_SECONDS:
                told = progress.seconds
                console.print(_live_line(progress), soft_wrap=True)

        yield show


def summary(result: Result) -> Group:
    """All that a measurement found."""
    parts: list[RenderableType] = [_outcome_table(result), _latency_table(result)]
    if result.stages:
        parts.append(_stages_table(result))
    if result.processes:
        parts.append(_processes_table(result))
    parts += [f"[red]{code}[/] {failure.count}: {escape(failure.message)}" for code, failure in result.errors.items()]
    parts += [f"[yellow]{escape(warning)}" for warning in result.warnings]
    return Group(*parts)


def step_line(step: Step) -> str:
    """One step of the search for the knee."""
    latency = step.result.latency
    verdict = f"[red]breaks[/]: {step.broken}" if step.broken else "[green]holds[/]"
    return (
        f"{step.load:>8g}  {step.result.throughput:6.1f} scenes/s  p50 {milliseconds(latency.p50)}  "
        f"p99 {milliseconds(latency.p99)} ms  {verdict}"
    )


def knee_line(knee: Knee) -> Text:
    """What a search found, in a sentence."""
    if knee.load is None:
        return Text(f"no load that was tried holds {knee.objective}", "red")
    found = Text.assemble((f"{knee.load:g} {knee.unit}", "bold"), f" hold {knee.objective}; ")
    if knee.limit is None:
        return found.append("no higher load that was tried breaks it")
    found.append(f"{knee.limit:g} do not")
    if knee.client_limit:
        found.append(f", but there the client may have been the limit: {knee.client_limit}", "yellow")
    return found


def milliseconds(seconds: float) -> str:
    """A duration in milliseconds, as precise as is of use."""
    value = seconds * 1000
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def outcome_rows(result: Result) -> list[tuple[str, str]]:
    """What became of the frames, as names and values."""
    cpu = result.cpu_seconds_per_frame
    memory = sum(process.resident_bytes_max for process in result.processes)
    return [
        ("load", describe(result.plan.load)),
        ("frames", f"{result.frames.source}, {result.frames.width}x{result.frames.height}"),
        ("frames due", f"{result.due}"),
        ("scenes per second", f"{result.throughput:.2f}"),
        ("scenes", f"{result.scenes}, {result.partial} of them partial"),
        ("dropped", _by_kind(result.drops)),
        ("errors", _by_kind({code: failure.count for code, failure in result.errors.items()})),
        *([("CPU per scene", f"{cpu * 1000:.1f} ms")] if cpu is not None else []),
        *([("memory of the system", f"{memory / _MEBIBYTE:.0f} MiB")] if memory else []),
    ]


def latency_rows(result: Result) -> list[tuple[str, list[str]]]:
    """Mean and quantiles in milliseconds of the three ways to look at how long a frame takes."""
    times = {
        "latency: since due": result.latency,
        "call: since sent": result.call,
        "lag of the client": result.client.lag,
    }
    return [(name, _quantiles(each)) for name, each in times.items() if each.count]


def stage_rows(result: Result) -> list[tuple[str, list[str]]]:
    """Median milliseconds of every stage, for each of `services_of`."""
    services = services_of(result)
    return [(stage, [_median(result, f"{service}.{stage}") for service in services]) for stage in _STAGES]


def process_rows(result: Result) -> list[tuple[str, list[str]]]:
    """Of every kind of process: how many, CPU milliseconds per scene, share of a core, memory in MiB."""
    return [
        (
            use.name,
            [
                f"{use.processes}",
                f"{use.cpu_seconds / result.answered * 1000:.1f}" if result.answered else "-",
                f"{use.cpu_seconds / result.plan.seconds:.0%}",
                f"{use.resident_bytes_max / _MEBIBYTE:.0f}",
            ],
        )
        for use in sorted(result.processes, key=lambda use: -use.cpu_seconds)
    ]


LATENCY_COLUMNS = ("mean", "p50", "p90", "p99", "p99.9", "max")
PROCESS_COLUMNS = ("number", "CPU ms/scene", "of a core", "memory MiB")


def _outcome_table(result: Result) -> Table:
    table = Table(box=SIMPLE_HEAD, show_header=False)
    for name, value in outcome_rows(result):
        table.add_row(name, value)
    return table


def _latency_table(result: Result) -> Table:
    return _numbers("milliseconds", LATENCY_COLUMNS, latency_rows(result))


def _stages_table(result: Result) -> Table:
    columns = [service.replace("_", " ") for service in services_of(result)]
    return _numbers("stage, median ms", columns, stage_rows(result))


def _processes_table(result: Result) -> Table:
    return _numbers("process", PROCESS_COLUMNS, process_rows(result))


def _numbers(head: str, columns: Sequence[str], rows: list[tuple[str, list[str]]]) -> Table:
    table = Table(Column(head, no_wrap=True), *(Column(column, justify="right") for column in columns), box=SIMPLE_HEAD)
    for name, values in rows:
        table.add_row(name, *values)
    return table


def _quantiles(times: Distribution) -> list[str]:
    return [milliseconds(each) for each in (times.mean, times.p50, times.p90, times.p99, times.p999, times.max)]


def _median(result: Result, stage: str) -> str:
    return milliseconds(result.stages[stage].p50) if stage in result.stages else "-"


def _by_kind(counts: dict[str, int]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return kinds or "0"


def _phase(progress: Progress) -> str:
    plan: Plan = progress.plan
    if progress.seconds < plan.warmup_seconds:
        return f"warming up {progress.seconds:.0f}/{plan.warmup_seconds:g} s"
    measured = progress.seconds - plan.warmup_seconds
    if measured < plan.seconds:
        return f"measuring {measured:.0f}/{plan.seconds:g} s"
    return "waiting for the last answers"


def _live_table(progress: Progress) -> Table:
    total = progress.total
    table = Table(
        "second", "due", "scenes", "dropped", "failed", "p50 ms", "p99 ms", "in flight", "CPU cores", box=SIMPLE_HEAD
    )
    table.title = f"{describe(progress.plan.load)}: {_phase(progress)}"
    for each in progress.intervals[-_RECENT:]:
        table.add_row(
            *(f"{count}" for count in (each.second, each.due, each.answered, each.dropped, each.failed)),
            *(milliseconds(seconds) for seconds in (each.p50, each.p99)),
            f"{each.in_flight}",
            f"{each.cpu_cores:.2f}",
        )
    latency = Distribution.of(total.latency)
    table.add_section()
    table.add_row(
        "all",
        *(f"{count}" for count in (total.due, total.answered, total.drops.total(), total.errors.total())),
        *(milliseconds(seconds) for seconds in (latency.p50, latency.p99)),
        f"{progress.in_flight}",
    )
    return table


def _live_line(progress: Progress) -> str:
    total, latency = progress.total, Distribution.of(progress.total.latency)
    return (
        f"{_phase(progress)}: {total.due} due, {total.answered} scenes, {total.drops.total()} dropped, "
        f"{total.errors.total()} failed, p50 {milliseconds(latency.p50)}, p99 {milliseconds(latency.p99)} ms"
    )
