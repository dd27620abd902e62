"""A camera in this process, and what its stream's answers say of their freshness."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise

from perception import Frame

from tests.support.contract_models import picture


def frame(index: int) -> Frame:
    """A frame whose thing moves by a pixel from one to the next, to and fro."""
    left = 2 + abs(index % 60 - 30)
    return Frame(picture(box=(left, 8, left + 30, 30)))


def film(frames: int, period: float, sent: list[float] | None = None) -> Iterator[Frame]:
    """A camera: frames at a steady pace, whatever becomes of them. sent: when each was taken, for who wants to know."""
    began = time.monotonic()
    for index in range(frames):
        time.sleep(max(0.0, began + index * period - time.monotonic()))
        if sent is not None:
            sent.append(time.monotonic())
        yield frame(index)


def ages(scenes: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Seconds since the capture of the newest scene's frame: when it came, and just before the next one came.

    scenes: when each frame was taken and when its scene came, by one clock. The second list is one shorter.
    """
    when_answered = [answered - taken for taken, answered in scenes]
    before_the_next = [answered - taken for (taken, _), (_, answered) in pairwise(scenes)]
    return when_answered, before_the_next


def jain_index(shares: Sequence[float]) -> float:
    """Fairness from 1/n (one has all) to 1 (all have the same). Jain et al., DEC-TR-301 (1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def fair_shares(demands: Sequence[float], total: float) -> list[float]:
    """The max-min fair division of `total`: nobody gets more than the demand, and what one leaves goes to the rest."""
    shares = [0.0] * len(demands)
    for rank, index in enumerate(sorted(range(len(demands)), key=demands.__getitem__)):
        shares[index] = min(demands[index], total / (len(demands) - rank))
        total -= shares[index]
    return shares


def in_words(ratios: Sequence[float]) -> str:
    """Median and maximum, for a test's report."""
    return f"{statistics.median(ratios):.2f} (most {max(ratios):.2f})"
