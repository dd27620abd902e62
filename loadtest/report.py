"""Measurements as one HTML file that needs nothing else: tables and plots, beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from loadtest import plots
from loadtest.knee import Knee
from loadtest.plan import describe
from loadtest.result import Result, services_of
from loadtest.tables import (
    LATENCY_COLUMNS,
    PROCESS_COLUMNS,
    knee_line,
    latency_rows,
    milliseconds,
    outcome_rows,
    process_rows,
    stage_rows,
)

Run = tuple[str, Result | Knee]
Rows = Iterable[tuple[str, Sequence[str]]]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; vertical-align: top; border-bottom: 1px solid #eee }
th:first-child, td:first-child { text-align: left }
th { font-weight: 600 } .warning { background: #fff4d6; padding: .4rem .8rem } .error { color: #a00 }
svg { max-width: 100%; height: auto } .wide { overflow-x: auto } footer { color: #777; margin-top: 3rem }
"""


class ReportError(ValueError):
    """A file that is no measurement; the message says why."""


def read(path: Path) -> Run:
    """What an earlier run wrote, by the file's name. Raises `ReportError` for anything else."""
    try:
        run: Result | Knee = TypeAdapter(Result | Knee).validate_json(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError:
        raise ReportError(f"{path}: expected what perception loadtest writes, found something else") from None
    return path.stem, run


def write_report(runs: Sequence[Run], path: Path) -> None:
    """Writes one page about all runs; searches for a knee come with their best step, or their first."""
    results = [(name, _result(run)) for name, run in runs]
    sections = [
        _section("Outcome", _beside([(name, outcome_rows(result)) for name, result in results])),
        *(_knee(name, run) for name, run in runs if isinstance(run, Knee)),
        _section("Latency, milliseconds", plots.latency_by_quantile(results), *map(_latency, results)),
    ]
    if any(result.processes for _, result in results):
        sections.append(_section("CPU and memory", plots.cpu_per_scene(results), *map(_processes, results)))
    sections += [_alone(name, result) for name, result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(results, sections), encoding="utf-8")


def _result(run: Result | Knee) -> Result:
    if isinstance(run, Result):
        return run
    return next((step.result for step in run.steps if step.load == run.load), run.steps[0].result)


def _page(results: Sequence[tuple[str, Result]], sections: Sequence[str]) -> str:
    machine, system = results[0][1].machine, results[0][1].system
    models = ", ".join(f"{task} {model}" for task, model in system.models.items())
    about = (
        f"Perception {system.version}, taxonomy {system.taxonomy}: {models}. The load came from {machine.processor}, "
        f"{machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB, {machine.platform}, Python {machine.python}."
    )
    warnings = "".join(
        f'<p class="warning">{escape(name)}: {escape(warning)}</p>'
        for name, result in results
        for warning in result.warnings
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Perception under load</title><style>{_STYLE}</style><h1>Perception under load</h1>"
        f"<p>{escape(about)}</p>{warnings}{''.join(sections)}"
        "<footer>docs/performance.md defines every number.</footer></html>\n"
    )


def _knee(name: str, found: Knee) -> str:
    rows = [
        (
            f"{step.load:g} {found.unit}",
            [
                f"{step.result.throughput:.2f}",
                milliseconds(step.result.latency.p50),
                milliseconds(step.result.latency.p99),
                f"{step.result.missed_share:.1%}",
                step.broken or "holds",
            ],
        )
        for step in found.steps
    ]
    table = _table("tried", ("scenes/s", "p50 ms", "p99 ms", "without a whole scene", ""), rows)
    return _section(f"{name}: the knee", f"<p>{escape(knee_line(found).plain)}</p>", plots.knee(found), table)


def _latency(run: tuple[str, Result]) -> str:
    return _table(run[0], LATENCY_COLUMNS, latency_rows(run[1]))


def _processes(run: tuple[str, Result]) -> str:
    return _table(run[0], PROCESS_COLUMNS, process_rows(run[1])) if run[1].processes else ""


def _alone(name: str, result: Result) -> str:
    parts = [
        f"<p>{escape(describe(result.plan.load))}, {result.started:%Y-%m-%d %H:%M} UTC</p>",
        plots.timeline(result),
    ]
    if result.errors:
        parts.append(_table("error", ("frames", "last message"), _error_rows(result)))
    if result.tasks:
        parts.append(_table("task", ("frames",), [(task, [f"{count}"]) for task, count in result.tasks.items()]))
    if result.stages:
        parts += [plots.stages(result), _table("stage, median ms", services_of(result), stage_rows(result))]
    if result.counters:
        rows = [(series, [f"{grown:g}"]) for series, grown in result.counters.items()]
        parts.append(_table("the system's own counters", ("grew by",), rows))
    return _section(name, *parts)


def _error_rows(result: Result) -> Rows:
    return [(code, [f"{failure.count}", failure.message]) for code, failure in result.errors.items()]


def _beside(runs: Sequence[tuple[str, list[tuple[str, str]]]]) -> str:
    columns = [dict(rows) for _, rows in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [(name, [column.get(name, "-") for column in columns]) for name in names]
    return _table("", [name for name, _ in runs], rows)


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _table(head: str, columns: Sequence[str], rows: Rows) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in (head, *columns))
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in (name, *cells))}</tr>" for name, cells in rows
    )
    return f'<div class="wide"><table><tr>{titles}</tr>{lines}</table></div>'
