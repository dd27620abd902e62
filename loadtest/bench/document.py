"""docs/benchmarks.md and its pictures, made from the results that there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from loadtest.bench.machine import Machine
from loadtest.bench.parts import PARTS
from loadtest.bench.plots import draw
from loadtest.bench.result import Comparison, Result, Table
from loadtest.bench.targets import Target, Verdict, read_targets

_HEAD = """\
# Benchmarks

Made by `make bench`; do not edit. `make bench ONLY="fusion codecs" QUICK=1` measures some parts, and in fewer rounds.

Every comparison is a ratio of medians of two arms that ran in turn, A B A B …, in one run on one machine, so that
whatever else happened there met both. The spread beside it is where nine of ten resamplings of the rounds put the
ratio. The medians themselves are shown to be able to follow; they hold for that machine and that moment alone.
"""


def write_document(folder: Path) -> Path:
    """Makes `benchmarks.md` in a folder, and its pictures, of the results in its folder `benchmarks`."""
    results = read_results(folder / "benchmarks")
    for result in results.values():
        for plot in result.findings.plots:
            draw(plot, folder / "benchmarks" / f"{plot.name}.svg")
    document = folder / "benchmarks.md"
    document.write_text(as_markdown(results, read_targets()), encoding="utf-8")
    return document


def read_results(folder: Path) -> dict[str, Result]:
    """The results in a folder, by part, in the order of the parts."""
    return {part: Result.read(path) for part in PARTS if (path := folder / f"{part}.json").is_file()}


def as_markdown(results: Mapping[str, Result], targets: Sequence[Target]) -> str:
    """The document's text."""
    blocks = [_HEAD, *_targets([target.judge(results) for target in targets])]
    for part, result in results.items():
        blocks += _part(PARTS[part].title, result)
    blocks += _machines(results.values())
    return "\n".join(blocks).rstrip() + "\n"


def _targets(verdicts: Sequence[Verdict]) -> Iterable[str]:
    yield "## What it has to show\n"
    yield from _table(
        ("what", "target", "found", "spread", "", "why"),
        [
            (
                verdict.target.claim,
                verdict.target.bound,
                "-" if verdict.found is None else _number(verdict.found),
                "-" if verdict.spread is None else " to ".join(map(_number, verdict.spread)),
                verdict.word,
                verdict.reason,
            )
            for verdict in verdicts
        ],
        right=(1, 2, 3),
    )


def _part(title: str, result: Result) -> Iterable[str]:
    findings = result.findings
    yield f"## {title}\n"
    yield findings.about + "\n"
    yield from (f"![{plot.title}](benchmarks/{plot.name}.svg)\n" for plot in findings.plots)
    if findings.comparisons:
        yield from _comparisons(findings.comparisons)
    for table in findings.tables:
        yield from _further(table)
    if findings.notes:
        yield "\n".join(f"- {note}" for note in findings.notes) + "\n"
    yield _circumstances(result)


def _comparisons(comparisons: Sequence[Comparison]) -> Iterable[str]:
    return _table(
        ("case", "quantity", "A", "B", "median A", "median B", "A by B", "spread", "rounds"),
        [
            (
                each.case,
                each.quantity,
                each.first,
                each.second,
                f"{_number(each.first_median)} {each.unit}".strip(),
                f"{_number(each.second_median)} {each.unit}".strip(),
                f"**{_number(each.ratio)}**",
                f"{_number(each.low)} to {_number(each.high)}",
                str(each.rounds),
            )
            for each in comparisons
        ],
        right=range(4, 9),
    )


def _further(table: Table) -> Iterable[str]:
    yield f"**{table.title}**\n"
    yield from _table(table.columns, table.rows, right=range(1, len(table.columns)))
    if table.note:
        yield table.note + "\n"


def _circumstances(result: Result) -> str:
    """When, where and how a part was measured, and how quiet it was then."""
    machine = result.machine
    rounds = "in few and short rounds" if result.quick else "in full"
    busy = f"the load average was {machine.load_average:g} before, and others kept {machine.others:g} cores busy"
    return (
        f"`{result.command}`, {rounds}, {result.seconds:.0f} s from {result.started}, at revision {machine.revision}, "
        f"on {machine.cores} cores of {machine.cpu}; {busy}.\n"
    )


def _machines(results: Iterable[Result]) -> Iterable[str]:
    """Every machine that something was measured on, once."""
    yield "## Where\n"
    described = dict.fromkeys(_describe(result.machine) for result in results)
    yield from described


def _describe(machine: Machine) -> str:
    cores = f"{machine.cores} cores of {machine.cpu} ({' '.join(machine.flags)}), {machine.memory:g} GiB"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"- {cores}, {machine.system}: {versions}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> Iterable[str]:
    aligned = set(right)
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "|".join("---:" if index in aligned else "---" for index in range(len(columns))) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def _number(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
