"""Frames are due when the load says, however many processes share it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import arrivals
from loadtest.plan import Open, Streams


@given(rate=st.floats(0.5, 500), processes=st.integers(1, 7))
def test_processes_that_share_even_arrivals_make_one_even_row(rate: float, processes: int) -> None:
    load = Open(rate=rate, arrivals="fixed")
    shares = [arrivals.open_loop(load, process, processes, 0, 2.0) for process in range(processes)]
    together = sorted(due for share in shares for due in share)
    assert together == pytest.approx(np.arange(len(together)) / rate)
    assert len(together) == pytest.approx(2.0 * rate, abs=1 + 1e-6)


def test_processes_that_share_random_arrivals_make_one_poisson_process() -> None:
    load = Open(rate=200, arrivals="poisson")
    shares = [list(arrivals.open_loop(load, process, 3, 7, 100.0)) for process in range(3)]
    gaps = np.diff(sorted(due for share in shares for due in share))
    # Of exponential gaps the deviation equals the mean.
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert shares[0] == list(arrivals.open_loop(load, 0, 3, 7, 100.0))
    assert shares[0] != list(arrivals.open_loop(load, 0, 3, 8, 100.0))


@given(rate=st.floats(0.5, 50), processes=st.integers(1, 7), seed=st.integers(0, 9))
def test_frames_as_from_cameras_come_in_the_even_steps_of_four(rate: float, processes: int, seed: int) -> None:
    load = Open(rate=rate, arrivals="cameras")
    shares = [list(arrivals.open_loop(load, process, processes, seed, 80 / rate)) for process in range(processes)]
    together = np.sort(np.concatenate(shares))
    assert len(together) == 80
    assert together[4:] - together[:-4] == pytest.approx(4 / rate)
    # Not tuned: as good as never do all of them stand at equal distances.
    assert np.diff(together[:5]) != pytest.approx(1 / rate)


def test_untuned_cameras_of_streams_begin_at_random() -> None:
    load = Streams(cameras=3, rate=5, arrivals="cameras")
    begin = [next(arrivals.camera(load, number, 7, 1.0)) for number in range(3)]
    assert len(set(begin)) == 3
    assert max(begin) < 1 / 5


def test_cameras_do_not_tick_together() -> None:
    load = Streams(cameras=4, rate=5)
    due = sorted(each for number in range(4) for each in arrivals.camera(load, number, 0, 1.0))
    assert due == pytest.approx(np.arange(20) / 20)
