"""Confusion matrices, and the mean IoU and accuracies that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.datasets.sample import IGNORE_LABEL


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts of pixels or objects by true and predicted class.

    labels: the C classes. counts: int64 [C, C + 1], true class by predicted class; the last column counts what was
    predicted as none of them.
    """

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        expected = (len(self.labels), len(self.labels) + 1)
        if self.counts.shape != expected:
            raise ValueError(f"confusion matrix: expected shape {expected}, found {self.counts.shape}")

    @classmethod
    def empty(cls, labels: Sequence[str]) -> Self:
        """Nothing counted yet."""
        return cls(tuple(labels), np.zeros((len(labels), len(labels) + 1), np.int64))

    @classmethod
    def of(cls, labels: Sequence[str], truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> Self:
        """Count two arrays of one shape.

        truth: class index, or `IGNORE_LABEL` for what does not count. predicted: class index, C for none of them.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"prediction: expected shape {truth.shape}, found {predicted.shape}")
        size = len(labels)
        counted = truth != IGNORE_LABEL
        pairs = truth[counted].astype(np.int64) * (size + 1) + predicted[counted]
        return cls(tuple(labels), np.bincount(pairs, minlength=size * (size + 1)).reshape(size, size + 1))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.labels, self.counts + other.counts)

    @property
    def total(self) -> int:
        """How many were counted."""
        return int(self.counts.sum())

    def iou(self) -> dict[str, float]:
        """Intersection over union of every class that occurs in the truth."""
        hits = np.diagonal(self.counts)
        true, predicted = self.counts.sum(axis=1), self.counts[:, :-1].sum(axis=0)
        return {
            label: float(hits[index] / (true[index] + predicted[index] - hits[index]))
            for index, label in enumerate(self.labels)
            if true[index]
        }

    def mean_iou(self) -> float:
        """The mean of `iou()`; NaN where nothing was counted."""
        values = list(self.iou().values())
        return float(np.mean(values)) if values else float("nan")

    def accuracy(self) -> float:
        """Share of what was counted whose class is right; NaN where nothing was counted."""
        return float(np.diagonal(self.counts).sum() / self.total) if self.total else float("nan")

    def occurring(self) -> Confusion:
        """Without the classes that neither the truth nor the prediction has."""
        kept = np.flatnonzero(self.counts.sum(axis=1) + self.counts[:, :-1].sum(axis=0))
        columns = [*kept.tolist(), len(self.labels)]
        return Confusion(tuple(self.labels[index] for index in kept), self.counts[kept][:, columns])


def top_k_accuracy(ranked: Sequence[Sequence[str]], truth: Sequence[str], k: int) -> float:
    """Share of cases whose true label is among the `k` likeliest; NaN without cases. ranked: labels, best first."""
    hits = [label in best[:k] for best, label in zip(ranked, truth, strict=True)]
    return float(np.mean(hits)) if hits else float("nan")
