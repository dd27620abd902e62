"""Arms measured in turn, A B A B …, so that whatever else the machine does meets all of them; and their ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Measured = Mapping[str, float]
"""What one run of an arm gave, by quantity."""

Samples = dict[str, dict[str, list[float]]]
"""A value for each round, by arm and quantity."""

_RESAMPLES = 2000
_INTERVAL = (5, 95)
"""Percentiles between which the spread of a ratio lies."""


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians, and the bounds between which nine of ten resamplings of the rounds put it."""

    value: float
    low: float
    high: float


def interleave(
    arms: Mapping[str, Callable[[], Measured]], rounds: int, on_measured: Callable[[], object] = lambda: None
) -> Samples:
    """Runs every arm once a round, in their order; `on_measured` hears of every run.

    Before the first round every arm runs once without being counted: it loads, fills caches and opens connections.
    """
    samples: Samples = {name: {} for name in arms}
    for arm in arms.values():
        arm()
        on_measured()
    for _ in range(rounds):
        for name, arm in arms.items():
            for quantity, value in arm().items():
                samples[name].setdefault(quantity, []).append(value)
            on_measured()
    return samples


def runs_of(arms: Mapping[str, object], rounds: int) -> int:
    """How many runs `interleave` makes."""
    return len(arms) * (rounds + 1)


def cpu_time(function: Callable[[], object]) -> Measured:
    """CPU time of a call of a function in this process, in ms, all threads together.

    The second of two calls counts, so that no arm pays for what the one before left in the caches.
    """
    function()
    started = time.process_time_ns()
    function()
    return {"cpu": (time.process_time_ns() - started) / 1e6}


def ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Median of `first` by median of `second`, whose values stand in the order of the rounds.

    The spread is a bootstrap over rounds (Efron 1979): a round is drawn whole, with the values of both arms, so that
    what slowed both does not count. Raises `ValueError` where they do not have a positive value each for every round.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"expected a value of both arms for every round, got {len(first)} and {len(second)}")
    pairs = np.array([first, second], np.float64)
    if not (np.isfinite(pairs) & (pairs > 0)).all():
        raise ValueError(f"expected positive values, got {pairs.min()}")
    drawn = np.random.default_rng(0).integers(len(first), size=(_RESAMPLES, len(first)))
    medians = np.median(pairs[:, drawn], axis=2)
    low, high = np.percentile(medians[0] / medians[1], _INTERVAL)
    middle = np.median(pairs, axis=1)
    return Ratio(float(middle[0] / middle[1]), float(low), float(high))
