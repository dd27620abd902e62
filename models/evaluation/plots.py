"""Confusion matrices, precision-recall curves and identities over time as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.evaluation.average_precision import PrecisionRecall
from models.evaluation.confusion import Confusion
from models.evaluation.result import Evaluation
from models.evaluation.timeline import MISSED, Timeline

_DPI = 110
_IDENTITY_COLOURS = np.delete(colormaps["tab10"](range(10)), 7, axis=0)[:, :3]  # without its grey
_LARGEST_WITH_NUMBERS = 25
"""A matrix of more classes has no numbers in its cells, and smaller ones."""


def write_confusion(evaluations: Sequence[Evaluation], path: Path) -> bool:
    """Draw every evaluation's confusion matrix beside each other; returns whether there is any."""
    matrices = [
        (each, confusion) for each in evaluations if (confusion := each.findings.confusion) and confusion.labels
    ]
    if not matrices:
        return False
    sides = [_inches(confusion) for _, confusion in matrices]
    figure = Figure(figsize=(sum(sides) + 0.6, max(sides)), dpi=_DPI, layout="constrained")
    columns = figure.subplots(1, len(matrices), squeeze=False, width_ratios=sides)[0]
    for axes, (evaluation, confusion) in zip(columns, matrices, strict=True):
        _draw_confusion(axes, confusion)
        axes.set_title(f"{evaluation.title}\non {evaluation.dataset}", fontsize=9)
    figure.savefig(path)
    return True


def write_precision_recall(evaluations: Sequence[Evaluation], path: Path) -> bool:
    """Draw every evaluation's precision-recall curves beside each other; returns whether there is any."""
    curves = [(each, curve) for each in evaluations for curve in each.findings.curves]
    if not curves:
        return False
    figure = Figure(figsize=(4.2 * len(curves), 4.2), dpi=_DPI, layout="constrained")
    for axes, (evaluation, curve) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
        _draw_curve(axes, curve)
        axes.set_title(f"{evaluation.title}\n{curve.kind} on {evaluation.dataset}", fontsize=9)
    figure.savefig(path)
    return True


def write_tracks(evaluations: Sequence[Evaluation], path: Path) -> bool:
    """Draw who each true thing was taken for, frame by frame: every film in a column of its own, with the tracker above
    and without it below; returns whether there is any.
    """
    films = [(each, film) for each in evaluations for film in each.findings.timelines]
    if not films:
        return False
    height = 0.8 + 0.14 * max(len(film.tracked.categories) for _, film in films)
    figure = Figure(figsize=(4.8 * len(films), 2 * height), dpi=_DPI, layout="constrained")
    for columns, (evaluation, film) in zip(figure.subplots(2, len(films), squeeze=False).T, films, strict=True):
        for axes, drawn, which in zip(columns, (film.tracked, film.untracked), ("with", "without"), strict=True):
            _draw_timeline(axes, drawn)
            axes.set_title(
                f"{evaluation.title}, {film.name}\n{which} tracker: {drawn.switches.sum()} switches", fontsize=9
            )
    figure.savefig(path)
    return True


def _inches(confusion: Confusion) -> float:
    size = len(confusion.labels)
    return 3.0 + size * (0.36 if size <= _LARGEST_WITH_NUMBERS else 0.16)


def _draw_confusion(axes: Axes, confusion: Confusion) -> None:
    shares = confusion.counts / np.maximum(confusion.counts.sum(axis=1, keepdims=True), 1)
    font_size = 7 if len(confusion.labels) <= _LARGEST_WITH_NUMBERS else 6
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true (each row sums to 1)")
    axes.set_xticks(range(len(confusion.labels) + 1), [*confusion.labels, "none"], rotation=90, fontsize=font_size)
    axes.set_yticks(range(len(confusion.labels)), confusion.labels, fontsize=font_size)
    if len(confusion.labels) > _LARGEST_WITH_NUMBERS:
        return
    for row, column in np.argwhere(shares >= 0.005).tolist():
        share = shares[row, column]
        colour = "white" if share > 0.5 else "black"
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=6, color=colour)


def _draw_curve(axes: Axes, curve: PrecisionRecall) -> None:
    for name, precision in curve.by_iou.items():
        axes.plot(np.linspace(0, 1, len(precision)), precision, label=f"{name}: AP {precision.mean():.3f}")
    axes.set(xlabel="recall", ylabel="precision (mean of categories)", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _draw_timeline(axes: Axes, drawn: Timeline) -> None:
    """A row for each true thing, a colour for each identity; grey where it was missed, a mark where it was switched."""
    picture = np.ones((*drawn.identities.shape, 3))
    picture[drawn.identities == MISSED] = 0.85
    found = drawn.identities > MISSED
    # In the order of their numbers, neighbours in unlike colours.
    _, order = np.unique(drawn.identities[found], return_inverse=True)
    picture[found] = _IDENTITY_COLOURS[order % len(_IDENTITY_COLOURS)]
    axes.imshow(picture, aspect="auto", interpolation="nearest")
    things, frames = drawn.switches.nonzero()
    axes.vlines(frames - 0.5, things - 0.5, things + 0.5, colors="black", linewidth=1.5)
    axes.set(xlabel="frame (grey: missed, bar: another identity)")
    axes.set_yticks(range(len(drawn.categories)), drawn.categories, fontsize=6)
