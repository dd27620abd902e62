"""ByteTrack: Zhang et al., *ByteTrack: Multi-Object Tracking by Associating Every Detection Box* (ECCV 2022).

The algorithm is the library `trackers`'. Added here: one tracker for each category, so that nothing ever changes from
one kind of thing into another, and ids that are unique over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import supervision
from trackers import ByteTrackTracker

from services.gateway.tracking.base import Observation, Track

_FRAME_RATE = 30.0
"""Frames per second for which the library's noise is set; other times between frames are scaled to it."""

_LOST_FRAMES = 60
"""How long a thing may go unseen and be known again: two seconds at that rate, by the clock and not by the frame."""

_CONFIDENT_SCORE = 0.5
"""From here on an observation begins a track and is the first to be matched; one below only continues a track."""

_SHORTEST_STEP_SECONDS = 1e-3
_LONGEST_STEP_SECONDS = 10.0
"""Time that passes between two frames, whatever the sender's clock says; after the longest, all is forgotten."""

_UNKNOWN = -1
"""The library's id for a thing that it has not seen often enough to name."""


class ByteTracker:
    """A `Tracker`: Kalman prediction over the time that passed, IoU matching, confident observations first.

    A thing is named in the second frame in a row that shows it.
    """

    def __init__(self) -> None:
        self._categories: dict[int, _Category] = {}
        self._ids = count(1)
        self._now = 0.0
        self._last_seconds: float | None = None

    def update(self, observations: Sequence[Observation], seconds: float) -> list[Track | None]:
        """See `Tracker.update`."""
        before = self._now
        step = 0.0 if self._last_seconds is None else seconds - self._last_seconds
        self._now += min(max(step, _SHORTEST_STEP_SECONDS), _LONGEST_STEP_SECONDS)
        self._last_seconds = seconds
        tracks: list[Track | None] = [None] * len(observations)
        for category_id in sorted({seen.category_id for seen in observations} | self._categories.keys()):
            indices = [index for index, seen in enumerate(observations) if seen.category_id == category_id]
            category = self._categories.setdefault(category_id, _Category(self._ids))
            found = category.update([observations[index] for index in indices], self._now, before)
            for index, track in zip(indices, found, strict=True):
                tracks[index] = track
            if category.empty:
                del self._categories[category_id]
        return tracks


@dataclass
class _Life:
    """What is remembered of a track. since: seconds when it was first seen."""

    id: int
    since: float
    frames: int


class _Category:
    """The tracks of one category."""

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids
        self._lives: dict[int, _Life] = {}
        self._tracker = ByteTrackTracker(
            lost_track_buffer=_LOST_FRAMES,
            frame_rate=_FRAME_RATE,
            track_activation_threshold=_CONFIDENT_SCORE,
            high_conf_det_threshold=_CONFIDENT_SCORE,
        )

    @property
    def empty(self) -> bool:
        """Whether it follows nothing any more."""
        return not self._tracker.tracks

    def update(self, observations: Sequence[Observation], now: float, before: float) -> list[Track | None]:
        """now, before: seconds of this frame and of the one before it."""
        boxes = np.array([seen.box for seen in observations], np.float32).reshape(-1, 4)
        detections = supervision.Detections(
            xyxy=boxes,
            confidence=np.array([seen.score for seen in observations], np.float32),
            # The library answers in an order of its own.
            data={"index": np.arange(len(observations))},
        )
        answer = self._tracker.update(detections, timestamp=now)
        tracklets = {tracklet.tracker_id: tracklet for tracklet in self._tracker.tracks}
        self._lives = {key: life for key, life in self._lives.items() if key in tracklets}
        tracks: list[Track | None] = [None] * len(observations)
        keys = answer.tracker_id if answer.tracker_id is not None else ()
        for index, key in zip(answer.data.get("index", ()), keys, strict=True):
            if key != _UNKNOWN:
                tracks[index] = self._track(int(key), tracklets[key], now, before)
        return tracks

    def _track(self, key: int, tracklet: object, now: float, before: float) -> Track:
        life = self._lives.get(key)
        if life is None:
            # Seen in the frame before, too, or it would not have been named.
            life = self._lives[key] = _Life(next(self._ids), before, frames=1)
        life.frames += 1
        return Track(life.id, life.frames, now - life.since, _velocity(tracklet))


def _velocity(tracklet: object) -> tuple[float, float]:
    """Pixels per second of the centre, from the Kalman filter's state: the corners, and their speeds per frame."""
    left, top, right, bottom = tracklet.state_estimator.kf.state[4:8, 0] * _FRAME_RATE  # type: ignore[attr-defined]
    return float(left + right) / 2, float(top + bottom) / 2
