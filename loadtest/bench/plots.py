"""Draws a part's pictures as SVG, the same bytes for the same numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from loadtest.bench.result import Plot

_COLOURS = ("#3b6ea5", "#d98a3d", "#5a9e6f", "#b05d78", "#7d6bb0", "#8a8a8a", "#c2b04b", "#4fa6b3")
_WIDTH = 8.0
_ROOM_OF_A_LABEL = 0.06
"""Share of an axis."""
_STYLE: Any = {
    "svg.hashsalt": "perception",
    "svg.fonttype": "path",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(plot: Plot, path: Path) -> None:
    """Draws a plot into an SVG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        height = 3.6 if plot.kind == "lines" else 1.3 + 0.26 * len(plot.labels) * _bars_of_a_label(plot)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
        axes = figure.subplots()
        {"bars": _draw_bars, "stack": _draw_stack, "lines": _draw_lines}[plot.kind](axes, plot)
        axes.set_title(plot.title, loc="left", fontsize=10)
        if len(plot.series) > 1:
            figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
        # Without a date, and with ids that do not change.
        figure.savefig(path, metadata={"Date": None})


def _bars_of_a_label(plot: Plot) -> float:
    return max(1, len(plot.series) * 0.7) if plot.kind == "bars" else 1.4


def _draw_bars(axes: Axes, plot: Plot) -> None:
    """Lying bars, so that labels have room; a label's bars of all series side by side."""
    thickness = 0.8 / len(plot.series)
    for index, (name, values) in enumerate(plot.series.items()):
        places = np.arange(len(values)) + (index - (len(plot.series) - 1) / 2) * thickness
        lengths = [np.nan if value is None else value for value in values]
        errors = _errors(plot, name)
        bars = axes.barh(
            places, lengths, thickness * 0.92, xerr=errors, color=_colour(index), label=name, **_ERROR_BARS
        )
        axes.bar_label(bars, fmt=" %.3g", fontsize=7, padding=2)
    _label_rows(axes, plot)


def _draw_stack(axes: Axes, plot: Plot) -> None:
    ends = np.zeros(len(plot.labels))
    for index, (name, values) in enumerate(plot.series.items()):
        lengths = np.array([value or 0.0 for value in values])
        axes.barh(np.arange(len(values)), lengths, 0.6, left=ends, color=_colour(index), label=name)
        ends += lengths
    for row, end in enumerate(ends):
        axes.text(end, row, f" {end:.3g}", va="center", fontsize=7)
    _label_rows(axes, plot)


def _label_rows(axes: Axes, plot: Plot) -> None:
    axes.set_yticks(np.arange(len(plot.labels)), plot.labels)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(plot.value_axis)
    if plot.logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    if plot.line is not None:
        axes.axvline(plot.line, color="black", linewidth=0.8, linestyle="--")


def _draw_lines(axes: Axes, plot: Plot) -> None:
    places = [float(label) for label in plot.labels]
    for index, (name, values) in enumerate(plot.series.items()):
        heights = [np.nan if value is None else value for value in values]
        axes.errorbar(
            places,
            heights,
            yerr=_errors(plot, name),
            marker="o",
            markersize=4,
            color=_colour(index),
            label=name,
            capsize=3,
        )
    axes.set_xscale("log", base=2)
    shown = _apart(places)
    axes.set_xticks([places[index] for index in shown], [plot.labels[index] for index in shown])
    axes.minorticks_off()
    axes.set(xlabel=plot.label_axis, ylabel=plot.value_axis)
    if plot.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    if plot.line is not None:
        axes.axhline(plot.line, color="black", linewidth=0.8, linestyle="--")
    axes.grid(alpha=0.3)


def _apart(places: Sequence[float]) -> list[int]:
    """Which of some rising places on a logarithmic axis have room for a label."""
    room = math.log(places[-1] / places[0]) * _ROOM_OF_A_LABEL
    shown = [0]
    for index, place in enumerate(places):
        if math.log(place / places[shown[-1]]) > room:
            shown.append(index)
    return shown


_ERROR_BARS: Any = {"capsize": 2, "error_kw": {"linewidth": 1}}


def _errors(plot: Plot, series: str) -> NDArray[np.float64] | None:
    """How far the spread reaches below and above each value, [2, N]."""
    if series not in plot.spread:
        return None
    values = np.array([np.nan if value is None else value for value in plot.series[series]])
    low, high = np.array(plot.spread[series]).T
    return np.asarray(np.maximum([values - low, high - values], 0), np.float64)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]
