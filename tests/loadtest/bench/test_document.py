"""docs/benchmarks.md out of results."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.bench.document import as_markdown, read_results, write_document
from loadtest.bench.machine import Machine, MachineWatch
from loadtest.bench.parts import PARTS
from loadtest.bench.result import Comparison, Findings, Plot, Result, Table, bars
from loadtest.bench.targets import Target, read_targets

MACHINE = Machine(
    cpu="Test CPU",
    cores=2,
    flags=("avx2",),
    memory=8.0,
    system="Linux",
    versions={"numpy": "2"},
    revision="abc1234+",
    load_average=0.5,
    others=0.25,
)
SAMPLES = {"ours": {"time": [1.0, 2.0, 3.0]}, "theirs": {"time": [30.0, 40.0, 60.0]}}


def comparison(id: str = "speed") -> Comparison:
    return Comparison.of(SAMPLES, "theirs", "ours", "time", id=id, case="large", quantity="CPU time", unit="ms")


def result(part: str, **findings: object) -> Result:
    return Result(
        part=part,
        command=f"make bench ONLY={part}",
        quick=True,
        started="2026-01-01 00:00 UTC",
        seconds=12.3,
        machine=MACHINE,
        findings=Findings.model_validate({"about": f"About {part}.", **findings}),
    )


def target(**bound: object) -> Target:
    return Target.model_validate(
        {"claim": "It is fast", "part": "fusion", "value": ["speed"], "reason": "Too slow.", **bound}
    )


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    written = result(
        "fusion",
        comparisons=(comparison(),),
        tables=(Table(title="T", columns=("a",), rows=(("1",),)),),
        plots=(bars("fusion", "Title", [comparison()], ["large"]),),
        values={"x": 1.5},
        notes=("A note.",),
    )

    assert Result.read(written.write(tmp_path)) == written


def test_a_comparison_holds_the_ratio_of_the_medians() -> None:
    found = comparison()

    assert (found.first_median, found.second_median, found.ratio, found.rounds) == (40, 2, 20, 3)
    assert found.low <= found.ratio <= found.high


@pytest.mark.parametrize(
    ("bound", "word", "reason"),
    [
        ({"at_least": 20}, "reached", ""),
        ({"at_least": 20.1}, "short", "Too slow."),
        ({"at_most": 20}, "reached", ""),
        ({"at_most": 19.9}, "short", "Too slow."),
        ({"at_most": 19.9, "reason": ""}, "short", "not looked into yet"),
        ({"at_most": 1, "value": ["nothing"]}, "not measured", ""),
        ({"at_most": 1, "part": "wire"}, "not measured", ""),
        ({"at_most": 30, "value": ["speed", "x"]}, "reached", ""),  # the worse of both
        ({"at_least": 30, "value": ["speed", "x"]}, "short", "Too slow."),
        ({"at_most": 30, "value": ["speed", "nothing"]}, "not measured", ""),  # a list is measured when all of it is
    ],
)
def test_a_target_is_judged_by_its_worst_figure(bound: dict[str, object], word: str, reason: str) -> None:
    results = {"fusion": result("fusion", comparisons=(comparison(),), values={"x": 30.0})}

    verdict = target(**bound).judge(results)

    assert (verdict.word, verdict.reason) == (word, reason)


def test_a_target_shows_the_spread_of_its_worst_figure() -> None:
    found = result("fusion", comparisons=(comparison(),), values={"x": 30.0, "y": 40.0}, spreads={"x": (29.0, 31.0)})

    assert target(at_most=30, value=["speed", "x"]).judge({"fusion": found}).spread == (29, 31)
    assert target(at_least=30, value=["speed", "x"]).judge({"fusion": found}).spread == (
        comparison().low,
        comparison().high,
    )
    assert target(at_most=30, value=["y"]).judge({"fusion": found}).spread is None


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1, "at_most": 2}])
def test_a_target_has_one_bound(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        target(**bounds)


def test_the_document_holds_every_number_of_every_part() -> None:
    results = {
        "fusion": result("fusion", comparisons=(comparison(),), notes=("It was loud.",)),
        "codecs": result("codecs", tables=(Table(title="Sizes", columns=("map", "KiB"), rows=(("big", "17"),)),)),
    }

    text = as_markdown(results, [target(at_least=50)])

    spread = f"{comparison().low:.3g} to {comparison().high:.3g}"
    assert f"| It is fast | ≥ 50 | 20 | {spread} | short | Too slow. |" in text
    assert f"| large | CPU time | theirs | ours | 40 ms | 2 ms | **20** | {spread} | 3 |" in text
    assert "| big | 17 |" in text
    assert "- It was loud." in text
    assert "the load average was 0.5 before, and others kept 0.25 cores busy" in text
    assert text.index("## Fusion") < text.index("## Masks and maps")
    assert text.count("Test CPU (avx2)") == 1


def test_a_document_without_results_says_that_nothing_was_measured() -> None:
    text = as_markdown({}, read_targets())

    assert text.count("not measured") == len(read_targets())


def test_the_same_results_give_the_same_files(tmp_path: Path) -> None:
    lines = Plot(
        name="lines",
        title="Over streams",
        kind="lines",
        label_axis="streams",
        value_axis="ms",
        labels=("1", "4", "16"),
        series={"p50": (1.0, None, 3.0), "p99": (2.0, 3.0, 9.0)},
    )
    stack = Plot(
        name="stack",
        title="Where it goes",
        kind="stack",
        label_axis="",
        value_axis="ms",
        labels=("ours", "floor"),
        series={"models": (50.0, 50.0), "decode": (9.0, None)},
    )
    plots = (bars("fusion", "Title", [comparison()], ["large"], logarithmic=True), lines, stack)
    result("fusion", comparisons=(comparison(),), plots=plots).write(tmp_path / "benchmarks")

    def written() -> dict[Path, bytes]:
        write_document(tmp_path)
        return {path: path.read_bytes() for path in tmp_path.rglob("*.*")}

    first, second = written(), written()

    assert first == second
    assert {path.name for path in first} == {"benchmarks.md", "fusion.json", "fusion.svg", "lines.svg", "stack.svg"}
    for path in tmp_path.rglob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_results_are_read_in_the_order_of_the_parts(tmp_path: Path) -> None:
    for part in ("wire", "fusion"):
        result(part).write(tmp_path)

    assert list(read_results(tmp_path)) == ["fusion", "wire"]


def test_every_target_speaks_of_a_part() -> None:
    assert {target.part for target in read_targets()} <= set(PARTS)


def test_the_machine_is_described() -> None:
    machine = MachineWatch().machine()

    assert machine.cores >= 1
    assert machine.memory > 0
    assert machine.others >= 0
    assert "numpy" in machine.versions
    assert machine.revision
