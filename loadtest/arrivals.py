"""When frames are due. What is late against these moments counts as waiting time, whoever made it late."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import count, takewhile

import numpy as np

from loadtest.plan import Open, Streams

_CAMERAS = 4
"""Of an open loop whose frames come as from cameras."""


def open_loop(load: Open, process: int, processes: int, seed: int, seconds: float) -> Iterator[float]:
    """Seconds from the start at which one process's share of an open loop's frames are due, ascending."""
    if load.arrivals == "fixed":
        times = even(processes / load.rate, process / load.rate)
    elif load.arrivals == "cameras":
        mine = range(process, _CAMERAS, processes)
        times = merge(*(untuned(_CAMERAS / load.rate, seed, number) for number in mine))
    else:
        # Poisson processes side by side make one whose rate is their sum.
        times = poisson(load.rate / processes, seed, process)
    return takewhile(lambda due: due < seconds, times)


def camera(load: Streams, number: int, seed: int, seconds: float) -> Iterator[float]:
    """Seconds from the start at which the frames of one camera are due, ascending. Fixed: all of them are even."""
    if load.arrivals == "fixed":
        times = even(1 / load.rate, number / (load.rate * load.cameras))
    elif load.arrivals == "cameras":
        times = untuned(1 / load.rate, seed, number)
    else:
        times = poisson(load.rate, seed, number)
    return takewhile(lambda due: due < seconds, times)


def even(interval: float, first: float) -> Iterator[float]:
    """Moments `interval` seconds apart."""
    return (first + interval * n for n in count())


def untuned(interval: float, seed: int, camera: int) -> Iterator[float]:
    """Moments `interval` seconds apart; where they begin is drawn for each camera, and the same for the same seed."""
    return even(interval, np.random.default_rng((seed, camera)).uniform(0, interval))


def poisson(rate: float, seed: int, stream: int) -> Iterator[float]:
    """Moments of a Poisson process; another one for each `stream`, and the same for the same seed."""
    random = np.random.default_rng((seed, stream))
    due = 0.0
    while True:
        due += random.exponential(1 / rate)
        yield due
