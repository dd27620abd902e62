"""Capture times, pace and thinning."""

from __future__ import annotations

from random import Random

import pytest

from services.camera.capture.clock import CaptureClock, Pace, Thinning
from services.runtime.backoff import Backoff

NOW = 1_700_000_000.0


def test_sender_clock_is_taken_where_it_agrees() -> None:
    clock = CaptureClock()
    assert clock.capture_time(1.0, NOW - 0.3, NOW) == (NOW - 0.3, "sender")
    # A camera that was never told the time, or whose clock runs ahead.
    assert clock.capture_time(2.0, 86_400.0, NOW + 1)[1] == "stream"
    assert clock.capture_time(3.0, NOW + 2.5, NOW + 2) == (NOW + 2, "sender")


def test_source_without_any_clock() -> None:
    assert CaptureClock().capture_time(None, None, NOW) == (NOW, "arrival")


def test_jitter_does_not_reach_capture_times() -> None:
    """Frames 40 ms apart that arrive up to 30 ms late are 40 ms apart."""
    random, clock = Random(1), CaptureClock()
    clock.capture_time(0.0, None, NOW)  # the quickest of all
    times = [clock.capture_time(n * 0.04, None, NOW + n * 0.04 + random.uniform(0, 0.03))[0] for n in range(1, 100)]
    assert times == pytest.approx([NOW + n * 0.04 for n in range(1, 100)])


@pytest.mark.parametrize("drift", [1e-3, -1e-3])
def test_drift_between_clocks_does_not_add_up(drift: float) -> None:
    """A camera whose clock is a thousandth off, for ten minutes: never off by more than a minute's drift."""
    clock = CaptureClock()
    for n in range(6000):
        arrival = NOW + n * 0.1
        capture_time, of_clock = clock.capture_time(n * 0.1 * (1 + drift), None, arrival)
        assert of_clock == "stream"
        assert 0 <= arrival - capture_time <= 61 * abs(drift)


def test_clock_of_the_source_is_set_anew() -> None:
    clock = CaptureClock()
    clock.capture_time(500.0, None, NOW)
    assert clock.capture_time(0.0, None, NOW + 0.1)[0] == pytest.approx(NOW + 0.1)


def test_capture_times_never_go_back() -> None:
    """The first frames are dated by their arrival; then the sender's clock tells that it was earlier."""
    clock = CaptureClock()
    first, _ = clock.capture_time(0.0, None, NOW)
    assert clock.capture_time(0.04, NOW - 0.2, NOW + 0.04) == (first, "sender")


class Time:
    """A clock that only moves when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_pace_holds_back_and_forgives() -> None:
    time = Time()
    pace = Pace(lambda: time.now, time.sleep)
    due = []
    for number in range(4):
        pace.wait_for(number * 0.5)
        due.append(time.now)
        time.now += 0.1  # work on the frame
    assert due == pytest.approx([100.0, 100.5, 101.0, 101.5])
    time.now += 10  # held up: no rush afterwards
    pace.wait_for(2.0)
    start = time.now
    pace.wait_for(2.5)
    assert time.now - start == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("source", "wanted", "expected"),
    [
        (30, 30.0, 100),  # all
        (30, 15.0, 50),  # every other one
        (30, 20.0, 67),  # two of three
        (30, 60.0, 100),  # more than there are
        (30, None, 100),
    ],
)
def test_thinning(source: int, wanted: float | None, expected: int) -> None:
    """Of a hundred frames whose times jitter by 3 ms."""
    random, thinning = Random(2), Thinning(wanted)
    kept = sum(thinning.keeps(NOW + n / source + random.uniform(0, 0.003)) for n in range(100))
    assert kept == pytest.approx(expected, abs=2)


def test_backoff_grows_to_its_bound_with_full_jitter() -> None:
    backoff = Backoff(1.0, 8.0, Random(3))
    bounds = [1, 2, 4, 8, 8, 8]
    cameras = [Backoff(1.0, 8.0, Random(seed)) for seed in range(300)]
    drawn = [[each.next_seconds() for each in cameras] for _ in bounds]
    for bound, seconds in zip(bounds, drawn, strict=True):
        assert 0 <= min(seconds) < 0.1 * bound
        assert 0.9 * bound < max(seconds) <= bound
    for _ in bounds:
        backoff.next_seconds()
    backoff.worked(7.9)  # not long enough to be trusted
    assert max(backoff.next_seconds() for _ in range(20)) > 1.0
    backoff.worked(8.1)
    assert backoff.next_seconds() <= 1.0
