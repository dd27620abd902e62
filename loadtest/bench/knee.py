"""The highest rate that holds an objective, and latency at 70 % of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from loadtest.bench.frames import frames_for
from loadtest.bench.pairs import Measured
from loadtest.bench.result import Comparison, Findings, Plot, Table
from loadtest.bench.run import Run
from loadtest.bench.system import system
from loadtest.knee import Knee, Objective, find_knee
from loadtest.plan import Arrivals, Open, Plan
from loadtest.result import Result
from services.stack.supervisor import StackError

PROFILE = "demo"
OBJECTIVE = Objective(percent=99, seconds=1.0)
SHARE = 0.7
_ARRIVALS: dict[Arrivals, str] = {"poisson": "at random", "fixed": "in even steps"}

ABOUT = f"""\
The **knee** is the highest rate at which the system still holds this: {OBJECTIVE}. `perception loadtest knee` finds it:
1080p JPEGs, each a call of its own that comes at random (Poisson), whether the system keeps up or not, with the models
of `{PROFILE}`. Then frames come at {SHARE:.0%} of that rate, at random and in even steps in turn; A and B are the 99th
percentile and the median of the same frames' latency, from the moment a frame was due."""


def measure(run: Run) -> Findings:
    """Searches the knee and measures below it."""
    seconds = run.pick(15.0, 6.0)
    with frames_for(PROFILE) as frames, system(run, PROFILE) as running:

        def drive(plan: Plan) -> Result:
            return running.drive(plan.load, frames, plan.seconds)

        with run.progress("the knee", 8) as advance:
            plan = Plan(load=Open(rate=1), seconds=seconds, warmup_seconds=0, seed=0)
            knee = find_knee(plan, OBJECTIVE, drive, precision=run.pick(0.1, 0.4), show=lambda _: advance())
        if knee.load is None:
            raise StackError(f"no rate holds {OBJECTIVE}; the lowest that was tried is {knee.limit:g} frames/s")
        rate = SHARE * knee.load

        def below(arrivals: Arrivals) -> Measured:
            result = running.drive(Open(rate=rate, arrivals=arrivals), frames, seconds)
            if not result.scenes:
                raise StackError(f"no scene in {seconds:g} s at {rate:.3g} frames/s")
            return {"p99": result.latency.p99 * 1e3, "p50": result.latency.p50 * 1e3}

        arms: dict[str, Callable[[], Measured]] = {arrivals: partial(below, arrivals) for arrivals in _ARRIVALS}
        found = run.interleave(f"{SHARE:.0%} of the knee", arms, run.pick(3, 1))
    comparisons = []
    for arrivals, name in _ARRIVALS.items():
        samples = {"p99": {"latency": found[arrivals]["p99"]}, "p50": {"latency": found[arrivals]["p50"]}}
        id = "p99_by_p50" if arrivals == "poisson" else "p99_by_p50.fixed"
        case = f"{rate:.3g} frames/s {name}"
        comparisons.append(
            Comparison.of(samples, "p99", "p50", "latency", id=id, case=case, quantity="latency", unit="ms")
        )
    return Findings(
        about=ABOUT,
        comparisons=tuple(comparisons),
        tables=(_steps(knee),),
        plots=(_plot(knee),),
        values={"knee": knee.load},
        notes=(f"The client may have been the limit: {knee.client_limit}.",) if knee.client_limit else (),
    )


def _steps(knee: Knee) -> Table:
    return Table(
        title=f"The search: {knee.load:g} {knee.unit} hold",
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
        line=OBJECTIVE.seconds * 1e3,
        logarithmic=True,
    )
