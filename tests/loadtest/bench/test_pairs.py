"""Arms in turn, and the ratio of their medians."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.pairs import cpu_time, interleave, ratio, runs_of

values = st.floats(1e-3, 1e6)
rounds = st.lists(st.tuples(values, values), min_size=1, max_size=12)


@given(rounds)
def test_the_ratio_is_that_of_the_medians(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)

    assert ratio(first, second).value == pytest.approx(np.median(first) / np.median(second))


@given(rounds)
def test_the_spread_lies_between_the_extreme_ratios_that_rounds_can_give(pairs: list[tuple[float, float]]) -> None:
    first, second = zip(*pairs, strict=True)

    found = ratio(first, second)

    assert min(first) / max(second) * (1 - 1e-9) <= found.low <= found.high <= max(first) / min(second) * (1 + 1e-9)


@given(st.lists(values, min_size=1, max_size=12), st.floats(0.01, 100))
def test_what_slows_both_arms_does_not_count(times: list[float], factor: float) -> None:
    found = ratio([factor * time for time in times], times)

    assert (found.value, found.low, found.high) == pytest.approx((factor, factor, factor))


@given(rounds, st.floats(0.01, 100))
def test_the_unit_does_not_matter(pairs: list[tuple[float, float]], factor: float) -> None:
    first, second = (np.array(arm) for arm in zip(*pairs, strict=True))

    found, scaled = ratio(first, second), ratio(factor * first, factor * second)

    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((found.value, found.low, found.high))


@pytest.mark.parametrize(("first", "second"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 1.0])])
def test_values_that_have_no_ratio_are_refused(first: list[float], second: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ratio(first, second)


def test_arms_take_turns_after_a_run_that_does_not_count() -> None:
    calls: list[str] = []
    clock = itertools.count()

    def arm(name: str) -> dict[str, float]:
        calls.append(name)
        return {"at": float(next(clock))}

    arms = {name: lambda name=name: arm(name) for name in "AB"}
    heard: list[None] = []

    samples = interleave(arms, 3, lambda: heard.append(None))

    assert calls == list("ABABABAB")
    assert samples == {"A": {"at": [2, 4, 6]}, "B": {"at": [3, 5, 7]}}
    assert len(heard) == len(calls) == runs_of(arms, 3)


def test_cpu_time_does_not_count_waiting() -> None:
    assert 0 < cpu_time(lambda: sum(range(10_000)))["cpu"] < float("inf")
