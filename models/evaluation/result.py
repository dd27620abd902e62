"""What an evaluation found, and whether that is good enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models.evaluation.average_precision import PrecisionRecall
from models.evaluation.confusion import Confusion

if TYPE_CHECKING:  # `--help` needs no part of the library that measures tracking
    from models.evaluation.timeline import FilmTimelines


class EvaluationError(RuntimeError):
    """The evaluation could not be carried out: a service did not answer, or not as its API promises."""


@dataclass(frozen=True)
class Expectation:
    """A metric is expected to reach `value - tolerance` at least."""

    metric: str
    value: float
    tolerance: float

    @property
    def least(self) -> float:
        """The worst value that passes."""
        return self.value - self.tolerance


@dataclass(frozen=True)
class Verdict:
    """An expectation and what was found; None where the evaluation gave no such metric."""

    expectation: Expectation
    found: float | None

    @property
    def passed(self) -> bool:
        """Whether it was met; a missing metric and NaN are failures."""
        return self.found is not None and self.found >= self.expectation.least

    def __str__(self) -> str:
        expected = self.expectation
        found = "missing" if self.found is None else f"{self.found:.4f}"
        return (
            f"{expected.metric} {found}, expected at least {expected.least:.4f} "
            f"({expected.value:.4f} - {expected.tolerance:.4f})"
        )


@dataclass(frozen=True, eq=False)
class Findings:
    """What a scorer measured.

    metrics: 0..1, best 1; NaN where there was nothing to measure. by_category: metric by category and name.
    frame_scores: by image id, 0..1, how good each picture's answer is, to find the worst. counts: what is told beside
    the metrics and not judged. confusion, curves, timelines: for the plots. notes: what a reader must know.
    """

    metrics: dict[str, float]
    by_category: dict[str, dict[str, float]]
    frame_scores: dict[int, float]
    confusion: Confusion | None = None
    curves: tuple[PrecisionRecall, ...] = ()
    timelines: tuple[FilmTimelines, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One subject on one data set. subject: as the plan says. model: its catalogue entry; empty for the whole."""

    subject: str
    model: str
    dataset: str
    frames: int
    findings: Findings
    verdicts: tuple[Verdict, ...] = field(default=())

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return f"{self.subject} ({self.model})" if self.model else self.subject

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """The expectations that were not met, as sentences."""
        return tuple(f"{self.title} on {self.dataset}: {verdict}" for verdict in self.verdicts if not verdict.passed)


def judge(expectations: Sequence[Expectation], metrics: dict[str, float]) -> tuple[Verdict, ...]:
    """Hold the metrics against what is expected of them."""
    return tuple(Verdict(expected, _known(metrics.get(expected.metric))) for expected in expectations)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
