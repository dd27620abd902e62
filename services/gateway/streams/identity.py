"""Who is who in a stream: tracks, and the epochs in which their ids mean something."""

from __future__ import annotations

import asyncio
import time

from perception.v1 import perception_pb2

from services.gateway.tracking import ByteTracker, Observation, Tracker


class Epochs:
    """Numbers for spans of identities, every one greater than all before it, also over restarts of the process.

    Microseconds since 1970, or one more than the last number where that is greater; they fit into 53 bits.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """A number that no span had before."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last


class Identity:
    """The identities of one stream."""

    def __init__(self, epochs: Epochs, track: bool) -> None:
        self._epochs = epochs
        self._tracker: Tracker | None = ByteTracker() if track else None
        self.epoch = epochs.next()

    def reset(self) -> None:
        """Forgets all tracks; a new epoch begins."""
        if self._tracker is not None:
            self._tracker = ByteTracker()
        self.epoch = self._epochs.next()

    async def follow(self, scene: perception_pb2.PerceiveResponse, seconds: float) -> None:
        """Writes the track of every thing into the scene; scenes come in the order of their capture."""
        if self._tracker is not None:
            await asyncio.to_thread(_write_tracks, self._tracker, scene, seconds)


def _write_tracks(tracker: Tracker, scene: perception_pb2.PerceiveResponse, seconds: float) -> None:
    things = [segment for segment in scene.panoptic.segments if segment.is_thing]
    tracks = tracker.update(
        [
            Observation(
                (thing.box.x_min, thing.box.y_min, thing.box.x_max, thing.box.y_max),
                thing.score,
                thing.category_id,
            )
            for thing in things
        ],
        seconds,
    )
    for thing, track in zip(things, tracks, strict=True):
        if track is not None:
            thing.track.CopyFrom(
                perception_pb2.Track(
                    id=track.id,
                    frames=track.frames,
                    age_microseconds=round(track.age_seconds * 1e6),
                    velocity_x=track.velocity[0],
                    velocity_y=track.velocity[1],
                )
            )
