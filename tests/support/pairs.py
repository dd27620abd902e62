"""Two ways compared in pairs, so that whatever else the machine does meets both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from random import Random


def ratio_of_medians(
    one: Callable[[], object],
    other: Callable[[], object],
    pairs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The median time of one over that of the other; each pair is called in an order drawn by lot."""
    took: dict[bool, list[float]] = {True: [], False: []}
    random = Random(0)
    for _ in range(pairs):
        for is_one in random.sample((True, False), 2):
            call = one if is_one else other
            began = clock()
            call()
            took[is_one].append(clock() - began)
    return statistics.median(took[True]) / statistics.median(took[False])
