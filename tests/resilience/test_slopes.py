"""The arithmetic by which a soak is judged; `make soak` runs one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.resilience.slopes import rises_throughout, slope
from tests.resilience.soak import LIMITS, Sample, judged

SECONDS = np.arange(0.0, 1800.0, 2.0)


def _wandering(seed: int) -> NDArray[np.float64]:
    """Memory as a process has it: it wanders around a level, each sample near the one before."""
    rng = np.random.default_rng(seed)
    values = np.zeros(SECONDS.size)
    for at in range(1, SECONDS.size):
        values[at] = 0.8 * values[at - 1] + rng.normal()
    return 200 + values


def test_a_line_has_its_slope() -> None:
    found = slope(SECONDS, 7 + 36 * SECONDS / 3600)
    assert found.per_hour == pytest.approx(36)
    assert found.lowest == pytest.approx(36)
    assert found.highest == pytest.approx(36)


def test_what_never_changes_does_not_grow() -> None:
    found = slope(SECONDS, np.full(SECONDS.size, 7.0))
    assert (found.lowest, found.per_hour, found.highest) == (0, 0, 0)


def test_noise_is_no_growth() -> None:
    found = [slope(SECONDS, _wandering(seed)) for seed in range(40)]
    assert sum(not one.lowest <= 0 <= one.highest for one in found) <= 3
    assert not any(one.exceeds(LIMITS["resident MiB"]) for one in found)


def test_a_leak_is_found_within_noise() -> None:
    leak = 2 * LIMITS["resident MiB"] * SECONDS / 3600
    assert all(slope(SECONDS, _wandering(seed) + leak).exceeds(LIMITS["resident MiB"]) for seed in range(20))


def test_one_jump_at_the_end_is_not_taken_for_growth_for_sure() -> None:
    assert not slope(SECONDS, 200 + 5.0 * (SECONDS > 1750)).exceeds(LIMITS["resident MiB"])


def test_levels_that_are_reached_by_steps_are_no_growth_however_sure_a_line_is() -> None:
    """Memory that is kept for the largest request so far, as Triton's; the line alone takes it for growth."""
    steps = 100 + 3.0 * (SECONDS > 500) + 5.0 * (SECONDS > 1000)
    assert slope(SECONDS, steps).exceeds(LIMITS["/dev/shm MiB"])
    assert not rises_throughout(SECONDS, steps, LIMITS["/dev/shm MiB"] / 2)


def test_a_leak_rises_throughout_also_within_noise() -> None:
    limit = LIMITS["resident MiB"]
    assert all(
        rises_throughout(SECONDS, _wandering(seed) + 2 * limit * SECONDS / 3600, limit / 2) for seed in range(20)
    )
    assert not any(rises_throughout(SECONDS, _wandering(seed), limit / 2) for seed in range(20))


@pytest.mark.parametrize("size", [0, 1, 39])
def test_too_few_samples_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least 40 samples"):
        slope(SECONDS[:size], SECONDS[:size])


def _samples(descriptors_per_hour: float) -> list[Sample]:
    flat = {"gateway": {"resident MiB": 150.0, "descriptors": 30.0, "threads": 9.0, "/dev/shm MiB": 0.0}}
    return [
        Sample(at, {"gateway": {**flat["gateway"], "descriptors": 30 + descriptors_per_hour * at / 3600}})
        for at in SECONDS
    ]


def test_what_grows_is_named() -> None:
    assert not any(row.grows for row in judged(_samples(0.0)))
    growing = [(row.process, row.quantity) for row in judged(_samples(100.0)) if row.grows]
    assert growing == [("gateway", "descriptors")]


def test_a_process_that_was_not_there_all_the_time_is_refused() -> None:
    samples = _samples(0.0)
    samples[50].processes.clear()
    with pytest.raises(ValueError, match="gateway"):
        judged(samples)
