"""Measurements as pictures: SVG texts to be put into a page."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from math import nan

import numpy as np
from hdrh.histogram import HdrHistogram
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from loadtest.knee import Knee
from loadtest.result import Distribution, Result, services_of

Named = tuple[str, Result]

_COLOURS = 10
_QUANTILES = (50, 90, 99, 99.9, 99.99)
_STAGES = ("decode", "preprocess", "inference", "postprocess", "fuse", "encode")
_WIDTH = 9.0


def latency_by_quantile(runs: Sequence[Named]) -> str:
    """What share of the frames took how long; dashed, as a client that waits for its turn would have seen it."""
    figure = _figure(3.6)
    axes = figure.subplots()
    for number, (name, result) in enumerate(runs):
        for times, style in ((result.latency, "-"), (result.call, "--")):
            if times.count:
                axes.plot(*_quantile_curve(times), style, color=_colour(number), label=name if style == "-" else None)
    axes.set_xscale("log")
    axes.set_xticks([_remaining(percent) for percent in _QUANTILES], [f"{percent:g} %" for percent in _QUANTILES])
    axes.set_xlim(right=max([_remaining(99), *(min(result.latency.count, _remaining(99.99)) for _, result in runs)]))
    _milliseconds(axes)
    axes.minorticks_off()
    axes.set_xlabel("share of the scenes that take no longer")
    dashed = Line2D([], [], linestyle="--", color="grey", label="from when it was sent")
    axes.legend(handles=[*axes.get_legend_handles_labels()[0], dashed], frameon=False, fontsize=8)
    return _svg(figure)


def timeline(result: Result) -> str:
    """What happened second by second."""
    figure = _figure(4.6)
    counts, times, cores = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 1))
    seconds = [each.second + 1 for each in result.intervals]
    for name, values, colour in (
        ("due", [each.due for each in result.intervals], 7),
        ("scenes", [each.answered for each in result.intervals], 2),
        ("dropped", [each.dropped for each in result.intervals], 1),
        ("failed", [each.failed for each in result.intervals], 3),
    ):
        counts.plot(seconds, values, color=_colour(colour), label=name, marker=".", markersize=3)
    counts.set_ylabel("frames/s")
    for name, values_ms, colour in (
        ("p50", [each.p50 * 1000 or nan for each in result.intervals], 0),
        ("p99", [each.p99 * 1000 or nan for each in result.intervals], 4),
    ):
        times.plot(seconds, values_ms, color=_colour(colour), label=name, marker=".", markersize=3)
    times.set_ylabel("latency, ms")
    cores.plot(seconds, [each.cpu_cores for each in result.intervals], color=_colour(5), label="CPU of the system")
    cores.set_ylabel("cores")
    cores.set_xlabel("second")
    for axes in (counts, times, cores):
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)


def stages(result: Result) -> str:
    """The mean time of every stage, for the gateway and each task; what is no stage of its own is in grey."""
    services = services_of(result)
    figure = _figure(0.9 + 0.36 * len(services))
    axes = figure.subplots()
    for row, service in enumerate(services):
        left = 0.0
        for number, stage in enumerate(_STAGES):
            if (times := result.stages.get(f"{service}.{stage}")) is not None:
                axes.barh(row, times.mean * 1000, left=left, color=_colour(number), height=0.6)
                left += times.mean * 1000
        whole = result.stages.get(f"{service}.call") or result.stages.get(f"{service}.total")
        if whole is not None:
            axes.barh(row, max(whole.mean * 1000 - left, 0), left=left, color="0.85", height=0.6)
    axes.set_yticks(range(len(services)), services)
    axes.invert_yaxis()
    axes.set_xlabel("mean milliseconds; a task's with the gateway's call of it")
    handles = [Line2D([], [], linewidth=6, color=_colour(n), label=stage) for n, stage in enumerate(_STAGES)]
    handles.append(Line2D([], [], linewidth=6, color="0.85", label="other"))
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)


def cpu_per_scene(runs: Sequence[Named]) -> str:
    """CPU time that each kind of process spends on a scene."""
    watched = [(name, result) for name, result in runs if result.processes and result.answered]
    kinds = _largest_first({use.name for _, result in watched for use in result.processes}, watched)
    figure = _figure(1.2 + 0.4 * len(watched))
    axes = figure.subplots()
    left = np.zeros(len(watched))
    for number, kind in enumerate(kinds):
        widths = np.array([_cpu_milliseconds(result, kind) for _, result in watched])
        hatch = "//" if number >= _COLOURS else None
        axes.barh(range(len(watched)), widths, left=left, color=_colour(number), height=0.6, label=kind, hatch=hatch)
        left += widths
    axes.set_yticks(range(len(watched)), [name for name, _ in watched])
    axes.invert_yaxis()
    axes.set_xlabel("CPU milliseconds per scene")
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)


def knee(found: Knee) -> str:
    """Latency and throughput at every load that was tried."""
    steps = sorted(found.steps, key=lambda step: step.load)
    loads = [step.load for step in steps]
    objective = found.objective
    figure = _figure(3.6)
    axes = figure.subplots()
    quantiles = [step.result.latency.quantile(objective.percent) * 1000 for step in steps]
    axes.plot(loads, quantiles, color=_colour(4), label=f"p{objective.percent:g}")
    axes.plot(loads, [step.result.latency.p50 * 1000 for step in steps], color=_colour(0), label="p50")
    for held, colour, label in ((True, "tab:green", "holds"), (False, "tab:red", "breaks the objective")):
        points = [
            (load, ms) for load, ms, step in zip(loads, quantiles, steps, strict=True) if (not step.broken) == held
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o" if held else "X", color=colour, label=label)
    axes.axhline(objective.seconds * 1000, color="tab:red", linestyle=":", label="objective")
    if found.load is not None:
        axes.axvline(found.load, color="tab:green", linestyle=":", label="knee")
    _milliseconds(axes)
    axes.set_xlabel(found.unit)
    throughput = axes.twinx()
    throughput.plot(loads, [step.result.throughput for step in steps], color="0.6", linestyle="--", label="scenes/s")
    throughput.set_ylim(bottom=0)
    throughput.set_ylabel("scenes/s")
    handles = [*axes.get_legend_handles_labels()[0], *throughput.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.08, 0.5))
    return _svg(figure)


def _quantile_curve(times: Distribution) -> tuple[list[float], list[float]]:
    counted = HdrHistogram.decode(times.histogram)
    # A quantile that stands for less than one frame says nothing.
    last = min(times.count, _remaining(_QUANTILES[-1]))
    remaining = np.geomspace(1, max(last, 2), 200)
    percents = 100 * (1 - 1 / remaining)
    return remaining.tolist(), [counted.get_value_at_percentile(percent) / 1000 for percent in percents]


def _remaining(percent: float) -> float:
    """Frames of which one takes longer."""
    return 1 / (1 - percent / 100)


def _cpu_milliseconds(result: Result, kind: str) -> float:
    return sum(use.cpu_seconds for use in result.processes if use.name == kind) / result.answered * 1000


def _largest_first(kinds: set[str], runs: Sequence[Named]) -> list[str]:
    return sorted(kinds, key=lambda kind: -sum(_cpu_milliseconds(result, kind) for _, result in runs))


def _milliseconds(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("latency, ms")


def _colour(number: int) -> str:
    return f"C{number % _COLOURS}"


def _figure(height: float) -> Figure:
    return Figure(figsize=(_WIDTH, height), layout="constrained")


def _svg(figure: Figure) -> str:
    for axes in figure.axes:
        _tidy(axes)
    text = StringIO()
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", transparent=True)
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _tidy(axes: Axes) -> None:
    axes.spines["top"].set_visible(False)
    axes.grid(alpha=0.25)
    axes.tick_params(labelsize=8)
