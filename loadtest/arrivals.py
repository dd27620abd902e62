"""When frames are due. What is late against these moments counts as waiting time, whoever made it late."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, takewhile

import numpy as np

from loadtest.plan import Open, Streams


def open_loop(load: Open, process: int, processes: int, seed: int, seconds: float) -> Iterator[float]:
    """Seconds from the start at which one process's share of an open loop's frames are due, ascending."""
    if load.arrivals == "fixed":
        times = even(processes / load.rate, process / load.rate)
    else:
        # Poisson processes side by side make one whose rate is their sum.
        times = poisson(load.rate / processes, seed, process)
    return takewhile(lambda due: due < seconds, times)


def camera(load: Streams, number: int, seed: int, seconds: float) -> Iterator[float]:
    """Seconds from the start at which the frames of one camera are due, ascending; cameras do not tick together."""
    if load.arrivals == "fixed":
        times = even(1 / load.rate, number / (load.rate * load.cameras))
    else:
        times = poisson(load.rate, seed, number)
    return takewhile(lambda due: due < seconds, times)


def even(interval: float, first: float) -> Iterator[float]:
    """Moments `interval` seconds apart."""
    return (first + interval * n for n in count())


def poisson(rate: float, seed: int, stream: int) -> Iterator[float]:
    """Moments of a Poisson process; another one for each `stream`, and the same for the same seed."""
    random = np.random.default_rng((seed, stream))
    due = 0.0
    while True:
        due += random.exponential(1 / rate)
        yield due
