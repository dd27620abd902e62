"""What a part of the benchmark found: numbers with what they mean, kept as JSON, from which the document is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from loadtest.bench.machine import Machine
from loadtest.bench.pairs import Samples, ratio

Unit = Literal["s", "ms", "1/s", "MiB", ""]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Comparison(_Record):
    """One quantity of two arms that ran in turn.

    id: what targets call it. case: under which circumstances. first, second: the arms' names and medians, in `unit`.
    ratio: first by second, with the spread from `low` to `high`.
    """

    id: str
    case: str
    quantity: str
    unit: Unit
    first: str
    second: str
    first_median: float
    second_median: float
    ratio: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(
        cls,
        samples: Samples,
        first: str,
        second: str,
        key: str,
        *,
        id: str,
        case: str,
        quantity: str,
        unit: Unit,
    ) -> Self:
        """Compares a quantity, called `key` in the samples, of two of their arms."""
        a, b = samples[first][key], samples[second][key]
        found = ratio(a, b)
        return cls(
            id=id,
            case=case,
            quantity=quantity,
            unit=unit,
            first=first,
            second=second,
            first_median=median(a),
            second_median=median(b),
            ratio=found.value,
            low=found.low,
            high=found.high,
            rounds=len(a),
        )


class Table(_Record):
    """Numbers that stand beside the comparisons and explain them. Cells are ready to be shown."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Plot(_Record):
    """A picture to draw.

    kind: "bars", a group of bars for each label; "stack", the series of each label on top of each other; "lines", over
    labels that are numbers. series: a value, or None, for each label. spread: low and high ends of the same.
    line: a value to mark, such as the ratio of equals. logarithmic: the values' axis.
    """

    name: str
    title: str
    kind: Literal["bars", "stack", "lines"]
    label_axis: str
    value_axis: str
    labels: tuple[str, ...]
    series: dict[str, tuple[float | None, ...]]
    spread: dict[str, tuple[tuple[float, float], ...]] = {}
    line: float | None = None
    logarithmic: bool = False


class Findings(_Record):
    """What a part measured.

    about: what the arms are and what they contain, in Markdown. values: further numbers that targets speak of. spreads:
    from where to where rounds put them, where there were several. notes: what could not be measured and why, and what
    to know when reading the numbers.
    """

    about: str
    comparisons: tuple[Comparison, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    values: dict[str, float] = {}
    spreads: dict[str, tuple[float, float]] = {}
    notes: tuple[str, ...] = ()

    def value(self, id: str) -> float | None:
        """The ratio or the value of that name; None where there is none."""
        ratios = {comparison.id: comparison.ratio for comparison in self.comparisons}
        return (ratios | self.values).get(id)

    def spread(self, id: str) -> tuple[float, float] | None:
        """From where to where rounds put the ratio or the value of that name; None where that is not known."""
        ratios = {comparison.id: (comparison.low, comparison.high) for comparison in self.comparisons}
        return (ratios | self.spreads).get(id)


class Result(_Record):
    """A part's findings, and how and where they came about.

    command: what makes them again. seconds: how long it took. quick: whether fewer rounds were made than usual.
    """

    part: str
    command: str
    quick: bool
    started: str
    seconds: float
    machine: Machine
    findings: Findings

    def write(self, folder: Path) -> Path:
        """Keeps the result in `<part>.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.part}.json"
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """A result that was kept. Raises `ValueError` where the file holds none."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


def bars(
    name: str, title: str, comparisons: Sequence[Comparison], labels: Sequence[str], *, logarithmic: bool = False
) -> Plot:
    """A bar for the ratio of every comparison, with its spread."""
    return Plot(
        name=name,
        title=title,
        kind="bars",
        label_axis="",
        value_axis="ratio",
        labels=tuple(labels),
        series={"ratio": tuple(found.ratio for found in comparisons)},
        spread={"ratio": tuple((found.low, found.high) for found in comparisons)},
        line=1.0,
        logarithmic=logarithmic,
    )
