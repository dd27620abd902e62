"""Whether a measured quantity stays flat: the slope of a line through it, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

BLOCKS = 20
"""Neighbouring samples resemble each other and would feign certainty; means over this many blocks hardly do."""
CONFIDENCE = 0.99


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
