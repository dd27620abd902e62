"""The circuit breaker of a task, on a clock of the test's."""

from __future__ import annotations

from random import Random

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.gateway.breaker import FAILURES_IN_A_ROW, LONGEST_PAUSE_SECONDS, Breaker, State, Verdict

CODE = grpc.StatusCode


class Clock:
    """Seconds that the test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def failing(clock: Clock) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker("detection", clock, Random(1))
    for _ in range(FAILURES_IN_A_ROW):
        assert breaker.admits()
        breaker.ended(Verdict.FAILS, "no route to host")
    assert breaker.state is State.OPEN
    return breaker


def test_failures_in_a_row_open_it_and_others_do_not() -> None:
    breaker = Breaker("detection", Clock())
    for _ in range(10):
        for _ in range(FAILURES_IN_A_ROW - 1):
            breaker.ended(Verdict.FAILS)
        breaker.ended(Verdict.WORKS)
        for _ in range(100):
            breaker.ended(Verdict.UNKNOWN)
    assert breaker.admits()


def test_open_it_refuses_then_one_call_tries_and_closes_it() -> None:
    clock = Clock()
    breaker = failing(clock)
    assert "no route to host" in breaker.reason
    assert REGISTRY.get_sample_value("perception_task_breaker_state", {"task": "detection"}) == 2
    clock.now += LONGEST_PAUSE_SECONDS
    assert breaker.admits()
    assert not breaker.admits(), "one call tries, not all"
    breaker.ended(Verdict.WORKS)
    assert REGISTRY.get_sample_value("perception_task_breaker_state", {"task": "detection"}) == 0
    assert breaker.admits()


def test_a_trial_that_says_nothing_leaves_the_next_one_to_try_at_once() -> None:
    clock = Clock()
    breaker = failing(clock)
    clock.now += LONGEST_PAUSE_SECONDS
    assert breaker.admits()
    breaker.ended(Verdict.UNKNOWN)
    assert breaker.admits()


def test_pauses_grow_while_it_fails_and_are_short_again_after_it_worked_for_long() -> None:
    clock = Clock()

    def pause(breaker: Breaker) -> float:
        began = clock.now
        while not breaker.admits():
            clock.now += 0.01
        return clock.now - began

    def average(failures: int) -> float:
        total = 0.0
        for seed in range(200):
            breaker = Breaker("detection", clock, Random(seed))
            for _ in range(FAILURES_IN_A_ROW):
                breaker.ended(Verdict.FAILS)
            for _ in range(failures):
                pause(breaker)
                breaker.ended(Verdict.FAILS)
            total += pause(breaker)
        return total / 200

    assert average(1) > 1.5 * average(0)
    assert average(4) > 1.5 * average(1)


@given(st.lists(st.tuples(st.sampled_from(list(Verdict)), st.floats(0, 2)), max_size=60), st.integers())
def test_whatever_happened_a_recovered_task_is_asked_within_the_longest_pause(
    events: list[tuple[Verdict, float]], seed: int
) -> None:
    clock = Clock()
    breaker = Breaker("detection", clock, Random(seed))
    for verdict, seconds in events:
        if breaker.admits():
            breaker.ended(verdict)
        clock.now += seconds
    clock.now += LONGEST_PAUSE_SECONDS
    assert breaker.admits()
    breaker.ended(Verdict.WORKS)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("code", "seconds", "verdict"),
    [
        (CODE.UNAVAILABLE, 0.1, Verdict.FAILS),
        (CODE.DEADLINE_EXCEEDED, 1.6, Verdict.FAILS),
        # What a caller can bring about closes the task to nobody else.
        (CODE.DEADLINE_EXCEEDED, 0.1, Verdict.UNKNOWN),
        (CODE.INVALID_ARGUMENT, 1.6, Verdict.UNKNOWN),
        (CODE.INTERNAL, 1.6, Verdict.UNKNOWN),
        (CODE.RESOURCE_EXHAUSTED, 1.6, Verdict.UNKNOWN),
    ],
)
def test_what_a_failed_call_says(code: grpc.StatusCode, seconds: float, verdict: Verdict) -> None:
    assert Verdict.of(code, seconds) is verdict
