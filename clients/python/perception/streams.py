"""Streams of frames: what goes in, what comes out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from perception.convert import ImageLike
from perception.errors import PerceptionError, Unavailable
from perception.requests import Resolution, known, perceive_request
from perception.scene import Scene
from perception.tracing import trace_headers
from perception.v1 import perception_pb2

Priority = Literal["high", "normal", "low"]

_STOPPING = "STOPPING"
# What grpc.aio makes of any status that a call ends with while a frame is being written. Where the gateway has died,
# the next call says so.
_CALL_ENDED_DURING_A_WRITE = "Internal error from Core"
_MOST_HANDOVERS = 10
"""Handovers in a row, soon after each other and without an answer; then there is none to go on with."""
_LASTING_SECONDS = 5.0
_HANDOVER_SECONDS = 0.1


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a camera.

    image: path, encoded bytes, or RGB uint8 [H, W, 3]. sequence: its number, greater than that of the frame before; the
    next one where none is given. captured: when it was taken, in seconds since 1970; now where it is not given.
    reset_tracks: forget all tracks before this frame, after a cut say; a new epoch begins. position: its place on the
    source's own clock, in seconds; where it is given, tracks move by it and not by `captured`: for films that are not
    played at their own pace.
    """

    image: ImageLike
    sequence: int | None = None
    captured: float | None = None
    reset_tracks: bool = False
    position: float | None = None


@dataclass(frozen=True)
class FrameError:
    """Why a frame has no scene. code: canonical gRPC code by name."""

    code: str
    message: str


@dataclass(frozen=True)
class FrameDropped:
    """Why a frame was not perceived although nothing was wrong with it.

    reason: "superseded" by a newer frame while it waited, "too_old" to keep its deadline, or "already_answered" before
    the stream was resumed.
    """

    reason: str
    message: str


@dataclass(frozen=True, eq=False)
class StreamAnswer:
    """The answer to one frame: its scene, or why there is none.

    sequence: the frame's number. epoch: the span in which ids of tracks mean the same thing; another one after
    every connect, every handover to another gateway, and every reset. degradation: what was left out of the scene
    to keep the deadline, "no_attributes" or "no_instance_masks" (and attributes), empty for nothing. age: seconds
    from the frame's capture to its answer, by the gateway's clock. trace_id: 32 hexadecimal digits; empty where the
    frame is not traced.
    """

    sequence: int
    epoch: int
    age: float
    degradation: str = ""
    scene: Scene | None = None
    error: FrameError | None = None
    dropped: FrameDropped | None = None
    trace_id: str = ""


def is_handover(error: PerceptionError) -> bool:
    """Whether a stream ended because its gateway stops, or has had it for long: another one is to go on.

    Every frame that the gateway read is answered by then; the others are to be sent again.
    """
    return error.reason == _STOPPING or str(error) == _CALL_ENDED_DURING_A_WRITE


class Handovers:
    """How a stream goes on after its calls end."""

    def __init__(self) -> None:
        self._without_answer = 0
        self._called = time.monotonic()
        self._last_word: PerceptionError | None = None

    def answered(self) -> None:
        """A frame was answered."""
        self._without_answer = 0
        self._last_word = None

    def pause_seconds(self, error: PerceptionError) -> float:
        """Seconds until the next call. Raises the error where it is no handover, or one after the other is."""
        called, self._called = self._called, time.monotonic()
        lasted = self._called - called > _LASTING_SECONDS
        self._without_answer = 1 if lasted else self._without_answer + 1
        if error.reason == _STOPPING:
            self._last_word = error
        if not is_handover(error) or self._without_answer > _MOST_HANDOVERS:
            # Where there is no other gateway, what the last one said tells more than that there is none.
            raise (isinstance(error, Unavailable) and self._last_word) or error from None
        return _HANDOVER_SECONDS if self._without_answer > 1 else 0.0


@dataclass(frozen=True, eq=False)
class Waiting:
    """A frame without an answer. number: its place in the order in which frames came."""

    number: int
    picture: ImageLike
    request: perception_pb2.PerceiveStreamRequest


class Conversation:
    """One stream's requests and answers as messages; remembers the frames that are not answered yet.

    Raises `ValueError` for a priority, task or resolution that does not exist.
    """

    def __init__(
        self,
        camera: str,
        deadline: float | None,
        max_in_flight: int | None,
        priority: Priority,
        track: bool,
        resume_after: int | None,
        tasks: Iterable[str],
        score_threshold: float | None,
        resolution: Resolution,
    ) -> None:
        self._options = perception_pb2.StreamOptions(
            camera=camera,
            max_in_flight=max_in_flight or 0,
            priority=known(perception_pb2.Priority, "PRIORITY", priority),
            track=track,
            resume_after=resume_after,
        )
        if deadline is not None:
            self._options.deadline.FromMicroseconds(round(deadline * 1e6))
        self._tasks = tuple(tasks)
        self._score_threshold = score_threshold
        self._resolution: Resolution = resolution
        self._last = 0 if resume_after is None else resume_after
        self._count = 0
        self._waiting: deque[Waiting] = deque()
        perceive_request(b"", self._tasks, score_threshold, resolution)

    def add(self, frame: Frame | ImageLike) -> Waiting:
        """The next frame, which waits from now on. Raises `ValueError` or `OSError` for one that cannot be sent."""
        if not isinstance(frame, Frame):
            frame = Frame(frame)
        self._last = self._last + 1 if frame.sequence is None else frame.sequence
        request = perception_pb2.PerceiveStreamRequest(
            sequence=self._last,
            frame=perceive_request(frame.image, self._tasks, self._score_threshold, self._resolution),
            reset_tracks=frame.reset_tracks,
            traceparent=dict(trace_headers()).get("traceparent"),
        )
        captured = time.time() if frame.captured is None else frame.captured
        request.capture_time.FromNanoseconds(round(captured * 1e9))
        if frame.position is not None:
            request.position.FromNanoseconds(round(frame.position * 1e9))
        self._count += 1
        waiting = Waiting(self._count, frame.image, request)
        self._waiting.append(waiting)
        return waiting

    def next_after(self, number: int) -> Waiting | None:
        """The first frame after a place in their order that has no answer yet; None where all have one."""
        return next((waiting for waiting in tuple(self._waiting) if waiting.number > number), None)

    def with_options(self, request: perception_pb2.PerceiveStreamRequest) -> perception_pb2.PerceiveStreamRequest:
        """A request as the first one of a call: it says how the stream is treated."""
        first = perception_pb2.PerceiveStreamRequest(options=self._options)
        first.MergeFrom(request)
        return first

    def answer(self, message: perception_pb2.PerceiveStreamResponse) -> StreamAnswer:
        """The answer of a message. Raises `ValueError` for a malformed one."""
        picture = self._answered(message.sequence)
        level = perception_pb2.Degradation.Name(message.degradation).removeprefix("DEGRADATION_").lower()
        answer = partial(
            StreamAnswer,
            sequence=message.sequence,
            epoch=message.epoch,
            age=message.age_microseconds / 1e6,
            degradation="" if level == "unspecified" else level,
            trace_id=message.trace_id,
        )
        match message.WhichOneof("result"):
            case "scene":
                return answer(scene=Scene.from_message(message.scene, picture))
            case "error":
                return answer(error=FrameError(message.error.code, message.error.message))
            case "dropped":
                reason = perception_pb2.DropReason.Name(message.dropped.reason).removeprefix("DROP_REASON_").lower()
                return answer(dropped=FrameDropped(reason, message.dropped.message))
            case _:
                raise ValueError(
                    f"answer to frame {message.sequence}: expected a scene, an error or why it was dropped"
                )

    def _answered(self, sequence: int) -> ImageLike | None:
        """The frame waits no more. Its picture; None for an answer to a frame that nobody sent."""
        found = next((waiting for waiting in tuple(self._waiting) if waiting.request.sequence == sequence), None)
        if found is None:
            return None
        self._waiting.remove(found)
        self._options.resume_after = sequence
        return found.picture
