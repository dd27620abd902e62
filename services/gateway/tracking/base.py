"""What a tracker is told and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Observation:
    """A thing seen in one frame. box: xyxy in pixels of the picture. score: 0..1. category_id: the taxonomy's index."""

    box: tuple[float, float, float, float]
    score: float
    category_id: int


@dataclass(frozen=True)
class Track:
    """Who a thing is.

    id: from 1, the same for the same thing. frames: in which it was seen, this one included. age_seconds: since it was
    first seen. velocity: of its box's centre, pixels per second to the right and downwards.
    """

    id: int
    frames: int
    age_seconds: float
    velocity: tuple[float, float]


class Tracker(Protocol):
    """Follows the things of one stream. Shares nothing with other trackers."""

    def update(self, observations: Sequence[Observation], seconds: float) -> list[Track | None]:
        """The track of each thing of the next frame; None where nothing is known of it yet.

        seconds: when the frame was taken; only differences count. Frames may be missing, and the time between two tells
        how far things may have moved.
        """
        ...
