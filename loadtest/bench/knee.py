"""The highest rate that holds an objective, and latency at 70 % of it."""

from __future__ import annotations

from collections.abc import Sequence

from hdrh.histogram import HdrHistogram

from loadtest.bench.frames import frames_for
from loadtest.bench.result import Findings, Plot, Table
from loadtest.bench.run import Run
from loadtest.bench.system import System, system
from loadtest.knee import Knee, Objective, find_knee
from loadtest.plan import Arrivals, Closed, Open, Plan
from loadtest.result import Result
from loadtest.sources import Frames
from services.stack.supervisor import StackError

PROFILE = "demo"
SHARE = 0.7
TIMES_UNLOADED = 4
ENOUGH = 300
"""Frames of which the slowest hundredth is more than a few."""
_ROUNDS = 3
_FRAMES: dict[Arrivals, int] = {"cameras": ENOUGH, "fixed": 120, "poisson": 120}
_NAMES: dict[Arrivals, str] = {
    "cameras": "from four cameras, each even",
    "fixed": "in even steps",
    "poisson": "at random",
}

ABOUT = f"""\
The **knee** is the highest rate at which the 99th percentile of latency is no more than {TIMES_UNLOADED} times the
median of a system that has one frame at a time, and no more than a hundredth of the frames is without a whole scene.
{TIMES_UNLOADED} times: a frame may find three before it; where more wait, the line grows. A limit in ms would say
whether the models are fast, and not how the system bears its load. `perception loadtest knee` looks for it: 1080p JPEGs
with the models of `{PROFILE}`, each a call of its own that comes when it comes, as from four cameras that are even each
and begin at moments that nobody tunes to each other. Then frames come at {SHARE:.0%} of that rate: from such cameras,
with other beginnings in each round; in even steps, as one camera's do; and at random, as those of very many cameras
(Poisson). A server with one place that always takes the same time would have a 99th percentile of 2.7, 1 and about 4
times the median then, by queueing theory alone. Latency counts from the moment a frame was due; percentiles are those
of all rounds' frames together."""


def measure(run: Run) -> Findings:
    """Searches the knee and measures below it."""
    with frames_for(PROFILE) as frames, system(run, PROFILE) as running:
        objective = _objective(run, running, frames)
        knee = _search(run, running, frames, objective)
        if knee.load is None:
            raise StackError(f"no rate holds {objective}; the lowest that was tried is {knee.limit:g} frames/s")
        below = {arrivals: _below(run, running, frames, SHARE * knee.load, arrivals) for arrivals in _NAMES}
    latencies = {arrivals: _together(results) for arrivals, results in below.items()}
    counts = {arrivals: sum(result.scenes for result in results) for arrivals, results in below.items()}
    notes = [f"The client may have been the limit: {knee.client_limit}."] if knee.client_limit else []
    notes += [
        f"Only {count} frames came {_NAMES[arrivals]}: their 99th percentile is that of very few."
        for arrivals, count in counts.items()
        if count < 0.9 * ENOUGH
    ]
    return Findings(
        about=ABOUT,
        tables=(_latencies(latencies, counts, below, SHARE * knee.load), _steps(knee)),
        plots=(_plot(knee),),
        values={
            "knee": knee.load,
            **{f"p99_by_p50.{arrivals}": _p99_by_p50(latency) for arrivals, latency in latencies.items()},
        },
        spreads={f"p99_by_p50.{arrivals}": _spread(results) for arrivals, results in below.items()},
        notes=tuple(notes),
    )


def _objective(run: Run, running: System, frames: Frames) -> Objective:
    with run.progress("latency of one frame at a time", 1) as advance:
        alone = running.drive(Closed(clients=1), frames, run.pick(12.0, 5.0))
        advance()
    if not alone.scenes:
        raise StackError(f"no scene in {alone.plan.seconds:g} s")
    return Objective(percent=99, seconds=round(TIMES_UNLOADED * alone.latency.p50, 3))


def _search(run: Run, running: System, frames: Frames, objective: Objective) -> Knee:
    with run.progress("the knee", 8) as advance:
        plan = Plan(load=Open(rate=1, arrivals="cameras"), seconds=run.pick(15.0, 8.0), warmup_seconds=0, seed=0)
        return find_knee(
            plan,
            objective,
            lambda each: running.drive(each.load, frames, each.seconds),
            precision=run.pick(0.15, 0.4),
            show=lambda _: advance(),
        )


def _below(run: Run, running: System, frames: Frames, rate: float, arrivals: Arrivals) -> list[Result]:
    rounds = run.pick(_ROUNDS, 1)
    seconds = run.pick(_FRAMES[arrivals] / _ROUNDS, 30.0) / rate
    with run.progress(f"{SHARE:.0%} of the knee, {_NAMES[arrivals]}", rounds) as advance:
        results = []
        for seed in range(rounds):
            results.append(running.drive(Open(rate=rate, arrivals=arrivals), frames, seconds, seed))
            advance()
    if not all(result.scenes for result in results):
        raise StackError(f"no scene in {seconds:g} s at {rate:.3g} frames/s")
    return results


def _together(results: Sequence[Result]) -> HdrHistogram:
    """Latency of all frames, in microseconds."""
    first, *others = (HdrHistogram.decode(result.latency.histogram) for result in results)
    for other in others:
        first.add(other)
    return first


def _p99_by_p50(latency: HdrHistogram) -> float:
    return float(latency.get_value_at_percentile(99) / latency.get_value_at_percentile(50))


def _spread(results: Sequence[Result]) -> tuple[float, float]:
    """The least and the most of single rounds."""
    ratios = [_p99_by_p50(_together([result])) for result in results]
    return min(ratios), max(ratios)


def _latencies(
    latencies: dict[Arrivals, HdrHistogram],
    counts: dict[Arrivals, int],
    below: dict[Arrivals, list[Result]],
    rate: float,
) -> Table:
    def row(arrivals: Arrivals) -> tuple[str, ...]:
        p50, p99 = (latencies[arrivals].get_value_at_percentile(percent) / 1e3 for percent in (50, 99))
        low, high = _spread(below[arrivals])
        spread = f"{low:.2f} to {high:.2f}"
        return _NAMES[arrivals], str(counts[arrivals]), f"{p50:.0f}", f"{p99:.0f}", f"{p99 / p50:.2f}", spread

    return Table(
        title=f"Latency at {SHARE:.0%} of the knee: {rate:.3g} frames/s",
        columns=("arrivals", "frames", "p50, ms", "p99, ms", "p99 by p50", "in single rounds"),
        rows=tuple(row(arrivals) for arrivals in latencies),
    )


def _steps(knee: Knee) -> Table:
    return Table(
        title=f"The search: {knee.load:g} {knee.unit} hold {knee.objective}",
        columns=("frames/s", "p50, ms", "p99, ms", "without a scene", "holds"),
        rows=tuple(
            (
                f"{step.load:g}",
                f"{step.result.latency.p50 * 1e3:.0f}",
                f"{step.result.latency.p99 * 1e3:.0f}",
                f"{step.result.missed_share:.1%}",
                "no" if step.broken else "yes",
            )
            for step in sorted(knee.steps, key=lambda step: step.load)
        ),
    )


def _plot(knee: Knee) -> Plot:
    steps = sorted(knee.steps, key=lambda step: step.load)
    return Plot(
        name="knee",
        title=f"Latency over rate; the objective holds up to {knee.load:g} frames/s",
        kind="lines",
        label_axis="frames/s",
        value_axis="ms",
        labels=tuple(f"{step.load:g}" for step in steps),
        series={
            "p50": tuple(step.result.latency.p50 * 1e3 for step in steps),
            "p99": tuple(step.result.latency.p99 * 1e3 for step in steps),
        },
        line=knee.objective.seconds * 1e3,
        logarithmic=True,
    )
