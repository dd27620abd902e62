"""Whether a measured quantity stays flat: the slope of a line through it, how sure that is, and whether it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

BLOCKS = 20
"""Neighbouring samples resemble each other and would feign certainty; means over this many blocks hardly do."""
CONFIDENCE = 0.99
STRETCHES = 5
"""What grows for ever does so in each of these; memory that is kept for the largest request so far grows by steps."""


@dataclass(frozen=True)
class Slope:
    """How fast a quantity grows, in its unit per hour: the best estimate, and the interval that holds it."""

    per_hour: float
    lowest: float
    highest: float

    def exceeds(self, limit: float) -> bool:
        """Whether the quantity grows faster than `limit` per hour for sure, and not by noise."""
        return self.lowest > limit


def slope(seconds: Sequence[float], values: Sequence[float]) -> Slope:
    """The least-squares slope through the means of `BLOCKS` blocks, with Student's interval of `CONFIDENCE`.

    seconds, values: one sample each, at least two a block, in order. Raises `ValueError` for fewer.
    """
    if len(seconds) != len(values) or len(seconds) < 2 * BLOCKS:
        raise ValueError(f"expected at least {2 * BLOCKS} samples of both, got {len(seconds)} and {len(values)}")
    hours = np.array([block.mean() for block in np.array_split(np.asarray(seconds, float), BLOCKS)]) / 3600
    means = np.array([block.mean() for block in np.array_split(np.asarray(values, float), BLOCKS)])
    line = stats.linregress(hours, means)
    # A quantity that never changes has a slope of 0 for sure; its error is 0 / 0.
    half = stats.t.ppf((1 + CONFIDENCE) / 2, BLOCKS - 2) * float(np.nan_to_num(line.stderr))
    return Slope(float(line.slope), float(line.slope - half), float(line.slope + half))


def rises_throughout(seconds: Sequence[float], values: Sequence[float], per_hour: float) -> bool:
    """Whether the median of each of `STRETCHES` parts is above the one before, by what so much per hour makes of it."""
    moments = [block.mean() / 3600 for block in np.array_split(np.asarray(seconds, float), STRETCHES)]
    levels = [float(np.median(block)) for block in np.array_split(np.asarray(values, float), STRETCHES)]
    return all(
        above - level >= per_hour * (later - moment)
        for (moment, level), (later, above) in pairwise(zip(moments, levels, strict=True))
    )
