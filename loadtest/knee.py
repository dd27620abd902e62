"""The knee: the highest load that still holds an objective, found by doubling, halving and then bisection."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Literal

from pydantic import Field

from loadtest.plan import Closed, Part, Plan, Positive, Streams
from loadtest.result import Result

_PROBE_CLIENTS = 4
_MOST_DOUBLINGS = 12
_FEWEST_FRAMES = 10
"""Of a step; fewer say nothing."""

Measure = Callable[[Plan], Result]


class Objective(Part):
    """What a load must hold: so many percent of the scenes within so many seconds of the moment their frames were due,
    and at most that share of the frames without a whole scene.
    """

    percent: float = Field(default=99.0, gt=0, le=100)
    seconds: Positive = 1.0
    missed_share: float = Field(default=0.01, ge=0, le=1)

    def broken_by(self, result: Result) -> str:
        """How a result breaks the objective; empty where it holds it."""
        if not result.scenes:
            return "no scene at all"
        reasons = []
        latency = result.latency.quantile(self.percent)
        if latency > self.seconds:
            reasons.append(f"p{self.percent:g} {latency * 1000:.0f} ms > {self.seconds * 1000:.0f} ms")
        if result.missed_share > self.missed_share:
            reasons.append(f"{result.missed_share:.1%} without a whole scene > {self.missed_share:.1%}")
        return ", ".join(reasons)

    def __str__(self) -> str:
        return (
            f"p{self.percent:g} ≤ {self.seconds * 1000:g} ms and ≤ {self.missed_share:.3g} of the frames "
            "without a whole scene"
        )


class Step(Part):
    """One load that was tried. broken: how it breaks the objective; empty where it holds it."""

    load: float
    broken: str
    result: Result


class Knee(Part):
    """What a search found. load: the highest that holds, in `unit`; None where none that was tried does. limit: the
    lowest that does not; None where none was found. steps: in the order in which they were tried.
    """

    format: Literal["perception-loadtest-knee-1"] = "perception-loadtest-knee-1"
    objective: Objective
    unit: Literal["frames/s", "cameras"]
    load: float | None
    limit: float | None
    steps: list[Step]

    @property
    def client_limit(self) -> str:
        """Why the client, and not the system, may be what broke the objective first; empty where it is not."""
        failed = [step for step in self.steps if step.load == self.limit]
        return failed[0].result.client.limit if failed else ""


def find_knee(
    plan: Plan,
    objective: Objective,
    measure: Measure,
    *,
    start: float | None = None,
    precision: float = 0.1,
    show: Callable[[Step], object] = lambda _: None,
) -> Knee:
    """Varies the rate of an open loop, or the number of cameras, until the knee is known to a share of `precision`.

    plan: with a load of `Open` or `Streams`, whose rate or number does not count. measure: makes one measurement.
    start: where the search begins; without it at half of what a closed loop of a few clients gets. show: hears of every
    step. Raises `ValueError` for a closed loop.
    """
    if isinstance(plan.load, Closed):
        raise ValueError("a closed loop has no knee: its clients wait for the system")
    search = _Search(plan, objective, measure, show)
    low, high = search.bracket(start or _half_of_capacity(plan, measure))
    while low is not None and high is not None and (middle := search.between(low, high, precision)) is not None:
        if search.holds(middle):
            low = middle
        else:
            high = middle
    unit: Literal["frames/s", "cameras"] = "cameras" if search.is_whole else "frames/s"
    return Knee(objective=objective, unit=unit, load=low, limit=high, steps=search.steps)


class _Search:
    def __init__(self, plan: Plan, objective: Objective, measure: Measure, show: Callable[[Step], object]) -> None:
        self._plan = plan
        self._objective = objective
        self._measure = measure
        self._show = show
        self.is_whole = isinstance(plan.load, Streams)
        self.steps: list[Step] = []

    def holds(self, load: float) -> bool:
        """Tries a load."""
        result = self._measure(_with_load(self._plan, load))
        self.steps.append(Step(load=load, broken=self._objective.broken_by(result), result=result))
        self._show(self.steps[-1])
        return not self.steps[-1].broken

    def bracket(self, start: float) -> tuple[float | None, float | None]:
        """A load that holds and one that does not; None where doubling or halving finds none."""
        load = max(self._rounded(start), self._least)
        up = self.holds(load)
        for _ in range(_MOST_DOUBLINGS):
            following = max(self._rounded(load * 2 if up else load / 2), self._least)
            if following == load:
                break
            if self.holds(following) != up:
                return (load, following) if up else (following, load)
            load = following
        return (load, None) if up else (None, load)

    def between(self, low: float, high: float, precision: float) -> float | None:
        """The next load to try; None where the two are near enough."""
        middle = self._rounded(sqrt(low * high))
        return middle if high / low > 1 + precision and low < middle < high else None

    def _rounded(self, load: float) -> float:
        return round(load) if self.is_whole else float(f"{load:.3g}")

    @property
    def _least(self) -> float:
        return 1 if self.is_whole else self._rounded(_FEWEST_FRAMES / self._plan.seconds)


def _half_of_capacity(plan: Plan, measure: Measure) -> float:
    result = measure(plan.model_copy(update={"load": Closed(clients=_PROBE_CLIENTS)}))
    frames = max(result.throughput / 2, 1 / plan.seconds)
    return frames / plan.load.rate if isinstance(plan.load, Streams) else frames


def _with_load(plan: Plan, load: float) -> Plan:
    update = {"cameras": round(load)} if isinstance(plan.load, Streams) else {"rate": load}
    return plan.model_copy(update={"load": plan.load.model_copy(update=update)})
