"""One frame of a stream, and the answers that it can get."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from perception.v1 import perception_pb2

from services.runtime.tracing import NO_SPAN, Span

_LARGEST_AGE_MICROSECONDS = 2**63 - 1
_UNHURRIED_SHARE = 0.1
"""A frame that has less than this part of its deadline left when its turn comes is not begun."""


@dataclass(frozen=True, eq=False)
class Stamp:
    """What is known of a frame besides its picture.

    captured: when, on this process's monotonic clock. track_seconds: the time by which tracks move, on a clock of the
    sender's. span: from its arrival to its answer.
    """

    sequence: int
    captured: float
    track_seconds: float
    reset_tracks: bool
    span: Span = NO_SPAN

    @classmethod
    def of(cls, request: perception_pb2.PerceiveStreamRequest, span: Span = NO_SPAN) -> Stamp:
        """The stamp of a request that arrives now; a capture time that is missing or in the future is now."""
        captured, track_seconds = time.monotonic(), time.time()
        if request.HasField("capture_time"):
            told = request.capture_time.seconds + request.capture_time.nanos / 1e9
            captured -= max(0.0, track_seconds - told)
            track_seconds = min(track_seconds, told)
        if request.HasField("position"):
            track_seconds = request.position.seconds + request.position.nanos / 1e9
        return cls(request.sequence, captured, track_seconds, request.reset_tracks, span)

    @property
    def age(self) -> float:
        """Seconds since the frame was taken."""
        return time.monotonic() - self.captured

    @property
    def age_microseconds(self) -> int:
        """The age as it is told to the sender."""
        return min(round(self.age * 1e6), _LARGEST_AGE_MICROSECONDS)


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame that waits or is at work. deadline_seconds: from its capture to its answer."""

    stamp: Stamp
    request: perception_pb2.PerceiveRequest
    deadline_seconds: float

    @property
    def remaining(self) -> float:
        """Seconds until its deadline; negative when that has passed."""
        return self.deadline_seconds - self.stamp.age

    @property
    def unhurried_seconds(self) -> float:
        """Seconds for which it is still worth beginning."""
        return self.remaining - _UNHURRIED_SHARE * self.deadline_seconds


@dataclass(frozen=True, eq=False)
class Answer:
    """A frame's answer; its epoch, its tracks and its age are added when it is sent."""

    stamp: Stamp
    response: perception_pb2.PerceiveStreamResponse

    @property
    def result(self) -> str:
        """What became of the frame, for the metrics: scene, error, or why it was dropped."""
        kind: str = self.response.WhichOneof("result")
        if kind != "dropped":
            return kind
        return perception_pb2.DropReason.Name(self.response.dropped.reason).removeprefix("DROP_REASON_").lower()


def scene(stamp: Stamp, found: perception_pb2.PerceiveResponse, degradation: perception_pb2.Degradation) -> Answer:
    """The answer of a frame that was perceived."""
    return _answer(stamp, scene=found, degradation=degradation)


def error(stamp: Stamp, code: str, message: str) -> Answer:
    """The answer of a frame that cannot be perceived."""
    return _answer(stamp, error=perception_pb2.FrameError(code=code, message=message))


def superseded(stamp: Stamp) -> Answer:
    """The answer of a frame that waited until a newer one came."""
    return _dropped(stamp, perception_pb2.DROP_REASON_SUPERSEDED, "a newer frame arrived while it waited")


def too_old(frame: Frame) -> Answer:
    """The answer of a frame that cannot keep its deadline any more."""
    message = f"{frame.stamp.age:.3f} s old when its turn came, the deadline is {frame.deadline_seconds:g} s"
    return _dropped(frame.stamp, perception_pb2.DROP_REASON_TOO_OLD, message)


def already_answered(stamp: Stamp, answered: int) -> Answer:
    """The answer of a frame that was answered before the stream was resumed."""
    message = f"the stream was resumed after frame {answered}"
    return _dropped(stamp, perception_pb2.DROP_REASON_ALREADY_ANSWERED, message)


def _dropped(stamp: Stamp, reason: perception_pb2.DropReason, message: str) -> Answer:
    return _answer(stamp, dropped=perception_pb2.FrameDropped(reason=reason, message=message))


def _answer(stamp: Stamp, **result: Any) -> Answer:
    return Answer(stamp, perception_pb2.PerceiveStreamResponse(sequence=stamp.sequence, **result))
