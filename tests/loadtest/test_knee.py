"""The search for the knee finds it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.knee import Knee, Objective, find_knee
from loadtest.plan import Closed, Open, Plan, Streams, offered_rate
from loadtest.result import ClientUse, Distribution, FrameSource, Machine, Result, System
from loadtest.tally import Durations

OBJECTIVE = Objective(percent=99, seconds=0.5)


def always(seconds: float) -> Distribution:
    times = Durations()
    times.record(seconds)
    return Distribution.of(times, keep=True)


FAST, SLOW = always(0.1), always(1.0)


def result(plan: Plan, capacity: float) -> Result:
    """What a system would give that answers so many frames a second in 0.1 s, and more of them in a second."""
    offered = offered_rate(plan.load) or capacity
    found = FAST if offered <= capacity else SLOW
    return Result(
        plan=plan,
        frames=FrameSource(source="", count=1, height=1, width=1, mean_bytes=1),
        system=System(version="", taxonomy="", models={}),
        machine=Machine(processor="", cores=1, memory_bytes=1, platform="", python=""),
        started=datetime.now(UTC),
        due=1,
        answered=1,
        scenes=1,
        partial=0,
        drops={},
        errors={},
        tasks={},
        throughput=min(offered, capacity),
        latency=found,
        call=found,
        stages={},
        processes=[],
        counters={},
        client=ClientUse(processes=1, late_share=0, lag=found, busiest_core_share=0, limit=""),
        intervals=[],
        warnings=[],
    )


def search(load: Open | Streams, capacity: float, start: float | None) -> Knee:
    plan = Plan(load=load, seconds=10)
    return find_knee(plan, OBJECTIVE, lambda each: result(each, capacity), start=start, precision=0.1)


@settings(max_examples=20)
@given(capacity=st.floats(2, 2000), start=st.none() | st.floats(1, 1000))
def test_the_rate_is_found_from_anywhere(capacity: float, start: float | None) -> None:
    found = search(Open(rate=1), capacity, start)
    assert found.load is not None
    assert found.limit is not None
    assert found.load <= capacity < found.limit
    assert found.limit / found.load <= 1.1 + 1e-9
    assert len(found.steps) <= 20


@settings(max_examples=20)
@given(capacity=st.floats(2, 500))
def test_the_number_of_cameras_is_found_to_the_last_one_where_there_are_few(capacity: float) -> None:
    found = search(Streams(cameras=1, rate=2), capacity, None)
    assert found.load is not None
    assert found.limit is not None
    assert found.load * 2 <= capacity < found.limit * 2
    assert found.limit - found.load == 1 or found.limit / found.load <= 1.1


def test_a_system_that_holds_nothing_has_no_knee() -> None:
    found = search(Open(rate=1), 0.1, 50.0)
    assert (found.load, found.limit) == (None, 1.0)  # ten frames in ten seconds: fewer say nothing


def test_a_system_that_holds_everything_has_no_limit() -> None:
    found = search(Open(rate=1), 1e9, 1.0)
    assert found.load == pytest.approx(2**12, rel=0.01)
    assert found.limit is None


def test_a_closed_loop_has_no_knee() -> None:
    with pytest.raises(ValueError, match="closed loop"):
        find_knee(Plan(load=Closed(clients=1)), OBJECTIVE, lambda each: result(each, 1))


# What an objective says of a result: changes of a result that holds it, and the words that say what breaks it.
BROKEN = [
    ({}, ""),
    ({"due": 100, "scenes": 100, "partial": 2}, "2.0% without a whole scene"),
    ({"due": 100, "scenes": 97, "drops": {"superseded": 3}}, "3.0% without a whole scene"),
    ({"scenes": 0}, "no scene at all"),
]


@pytest.mark.parametrize(("changes", "words"), BROKEN)
def test_an_objective_counts_every_frame_without_a_whole_scene(changes: dict, words: str) -> None:
    good = result(Plan(load=Open(rate=1)), capacity=1)
    broken = OBJECTIVE.broken_by(good.model_copy(update=changes))
    assert words in broken
    assert bool(words) == bool(broken)
