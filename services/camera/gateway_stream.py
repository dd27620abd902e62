"""A camera's stream to the gateway: sends its newest frames, takes the answers, comes back when it breaks off."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import grpc
import grpc.aio
from google.protobuf import duration_pb2
from perception import PerceptionError, ResourceExhausted
from perception.streams import is_handover
from perception.v1 import geometry_pb2, image_pb2, perception_pb2, perception_pb2_grpc

from services.camera.camera import Camera, CameraFrame
from services.camera.settings import CameraSettings
from services.camera.status import CameraStatus, timestamp
from services.runtime import tracing
from services.runtime.backoff import Backoff
from services.runtime.errors import StreamIdle

MAX_UNANSWERED = 128
"""Frames of a live camera that may be without an answer: two seconds of a fast one. More are not sent."""
_ANSWER_SECONDS = 30.0
"""A gateway that owes an answer for longer does not work, whatever its connection says."""
_CHECK_SECONDS = 1.0
_UNHURRIED_SECONDS = 30.0
"""Deadline of a source whose every frame is wanted, where its settings name none."""
_UNHURRIED_IN_FLIGHT = 2
"""Frames at work of such a source, likewise: of a live one the gateway knows best."""
_FIRST_RETRY_SECONDS = 0.25
_MAX_RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SentFrame:
    """A frame that was sent and not answered yet. sent_at: seconds of the monotonic clock. span: from its capture."""

    sequence: int
    frame: CameraFrame
    sent_at: float
    span: tracing.Span = tracing.NO_SPAN


Room = Callable[[], Awaitable[None]]
Answered = Callable[[perception_pb2.PerceiveStreamResponse, SentFrame], None]


class _BrokenOff(Exception):
    """The stream is over before the camera is."""


@dataclass(frozen=True)
class _End:
    """How a call ended before the camera did. seconds: that it lasted."""

    error: BaseException
    seconds: float
    has_answered: bool

    @property
    def is_handover(self) -> bool:
        """Whether the gateway has answered all that it read, and another call is to go on: also of a silent camera."""
        if not isinstance(self.error, grpc.aio.AioRpcError):
            return False
        error = PerceptionError.from_rpc_error(self.error)
        return is_handover(error) or error.reason == StreamIdle.reason

    @property
    def retry_after_seconds(self) -> float:
        """What an overloaded gateway asks for; 0 where it says nothing."""
        if not isinstance(self.error, grpc.aio.AioRpcError):
            return 0.0
        error = PerceptionError.from_rpc_error(self.error)
        return (error.retry_after_seconds or 0.0) if isinstance(error, ResourceExhausted) else 0.0

    @property
    def reason(self) -> str:
        """In words."""
        if isinstance(self.error, grpc.aio.AioRpcError):
            return f"{self.error.code().name}: {self.error.details()}"
        return str(self.error)


class GatewayStream:
    """One camera's stream: waits until there is `room` for another answer, sends the camera's next frame, and hands
    every answer with its frame to `answered`, in order.

    A gateway that stops, or has had the stream for long, hands it over: what it did not answer is sent to the next one.
    After a break-off the stream resumes: a live camera goes on with its newest frame, and what was unanswered counts as
    lost; a lossless source sends its unanswered frames again.
    """

    def __init__(
        self,
        stub: perception_pb2_grpc.PerceptionServiceAsyncStub,
        settings: CameraSettings,
        camera: Camera,
        status: CameraStatus,
        room: Room,
        answered: Answered,
        random: Random,
    ) -> None:
        self._stub = stub
        self._settings = settings
        self._camera = camera
        self._room = room
        self._status = status
        self._answered = answered
        self._backoff = Backoff(_FIRST_RETRY_SECONDS, _MAX_RETRY_SECONDS, random)
        self._is_lossless = settings.capture_options().is_lossless
        self._max_in_flight = settings.stream.max_in_flight or (_UNHURRIED_IN_FLIGHT if self._is_lossless else 0)
        self._most_unanswered = self._max_in_flight if self._is_lossless else MAX_UNANSWERED
        self._unanswered: dict[int, SentFrame] = {}
        self._has_room = asyncio.Event()
        self._sequence = 0
        self._last_answered: int | None = None
        self._has_sent_all = False

    async def run(self) -> None:
        """Streams until the camera has ended and every frame is answered."""
        try:
            while (end := await self._attempt()) is not None:
                if not end.is_handover:
                    self._disconnected()
                if self._camera.is_over and not self._unanswered:
                    return
                await self._wait_after(end)
        finally:
            self._disconnected()

    async def _attempt(self) -> _End | None:
        """Streams over one call. How it ended too early; None where all is done."""
        started, answered = time.monotonic(), self._last_answered
        try:
            await self._stream()
            return None
        except* (grpc.aio.AioRpcError, asyncio.InvalidStateError, _BrokenOff) as errors:
            error = _first(errors)
        _heed_cancellation()
        return _End(error, time.monotonic() - started, has_answered=self._last_answered != answered)

    async def _wait_after(self, end: _End) -> None:
        self._backoff.worked(end.seconds)
        # Not at once where nothing was answered, or two gateways could hand the stream to each other for ever.
        delay = 0.0 if end.is_handover and end.has_answered else self._backoff.next_seconds() + end.retry_after_seconds
        details = {"camera": self._settings.name, "reason": end.reason, "retry_seconds": round(delay, 3)}
        if end.is_handover:
            log.info("the gateway hands the stream over", extra=details)
        else:
            log.warning("no stream to the gateway", extra=details)
        await asyncio.sleep(delay)

    async def _stream(self) -> None:
        call = self._stub.PerceiveStream()
        try:
            await call.wait_for_connection()
            self._status.gateway(is_connected=True)
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                group.create_task(self._send(call))
                await self._receive(call)
                watching.cancel()
        finally:
            call.cancel()

    async def _send(self, call: Any) -> None:
        # A call that is over takes no frame; why it is shows where its answers are received, after the last of them.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._send_all(call)

    async def _send_all(self, call: Any) -> None:
        is_first = True
        for sequence, sent in list(self._unanswered.items()):
            await self._write(call, sequence, sent.frame, is_first=is_first)
            is_first = False
        while True:
            await self._wait_for_room()
            frame = await self._camera.next_frame()
            if frame is None:
                self._has_sent_all = True
                await call.done_writing()
                return
            self._sequence += 1
            self._status.sent(frame.header.height, frame.header.width)
            await self._write(call, self._sequence, frame, is_first=is_first)
            is_first = False

    async def _write(self, call: Any, sequence: int, frame: CameraFrame, *, is_first: bool) -> None:
        if self._is_lossless:
            # It is taken when it is sent: how long it waited for its turn makes it no older.
            frame = replace(frame, header=replace(frame.header, capture_time=time.time()))
        # A frame that is sent again stays in its trace.
        known = self._unanswered.get(sequence)
        span = known.span if known is not None else self._span(sequence, frame)
        sent = self._unanswered[sequence] = SentFrame(sequence, frame, time.monotonic(), span)
        await call.write(self._request(sent, is_first=is_first))

    async def _receive(self, call: Any) -> None:
        """Takes answers until the stream ends. Raises `_BrokenOff` where frames are unanswered by then."""
        async for answer in call:
            sent = self._unanswered.pop(answer.sequence, None)
            if sent is None:
                raise _BrokenOff(f"an answer to frame {answer.sequence}, which is not waiting for one")
            self._last_answered = answer.sequence
            self._has_room.set()
            _end_span(sent.span, answer)
            self._answered(answer, sent)
        if self._unanswered or not self._has_sent_all:
            raise _BrokenOff("the gateway ended the stream")

    async def _watch(self) -> None:
        """Raises `_BrokenOff` where an answer is overdue."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            oldest = next(iter(self._unanswered.values()), None)
            if oldest is not None and time.monotonic() - oldest.sent_at > _ANSWER_SECONDS:
                raise _BrokenOff(f"no answer to frame {oldest.sequence} for {_ANSWER_SECONDS:.0f} s")

    async def _wait_for_room(self) -> None:
        await self._room()
        while len(self._unanswered) >= self._most_unanswered:
            self._has_room.clear()
            await self._has_room.wait()

    def _disconnected(self) -> None:
        self._status.gateway(is_connected=False)
        if self._is_lossless:
            return
        self._status.lost(len(self._unanswered))
        for sent in self._unanswered.values():
            sent.span.fail("lost", "the connection to the gateway broke before the answer")
            sent.span.end()
        self._unanswered.clear()

    def _span(self, sequence: int, frame: CameraFrame) -> tracing.Span:
        about: tracing.Attributes = {"perception.camera": self._settings.name, "perception.sequence": sequence}
        return tracing.tracer.frame("frame", about, begun=frame.header.capture_time, is_sent=True)

    def _request(self, sent: SentFrame, *, is_first: bool) -> perception_pb2.PerceiveStreamRequest:
        header = sent.frame.header
        request = perception_pb2.PerceiveStreamRequest(
            sequence=sent.sequence,
            capture_time=timestamp(header.capture_time),
            frame=perception_pb2.PerceiveRequest(
                image=image_pb2.Image(encoded=sent.frame.jpeg), mask_format=geometry_pb2.MASK_FORMAT_BOX
            ),
            options=self._options() if is_first else None,
            reset_tracks=header.is_cut,
            traceparent=sent.span.traceparent,
        )
        if header.position is not None:
            request.position.FromNanoseconds(round(header.position * 1e9))
        return request

    def _options(self) -> perception_pb2.StreamOptions:
        stream = self._settings.stream
        options = perception_pb2.StreamOptions(
            camera=self._settings.name,
            max_in_flight=self._max_in_flight,
            priority=f"PRIORITY_{stream.priority.upper()}",
            track=stream.track,
            resume_after=self._last_answered,
        )
        seconds = stream.deadline_seconds or (_UNHURRIED_SECONDS if self._is_lossless else None)
        if seconds is not None:
            deadline = duration_pb2.Duration()
            deadline.FromMicroseconds(round(seconds * 1e6))
            options.deadline.CopyFrom(deadline)
        return options


def _end_span(span: tracing.Span, answer: perception_pb2.PerceiveStreamResponse) -> None:
    span.set("perception.result", answer.WhichOneof("result") or "none")
    if answer.HasField("error"):
        span.fail(answer.error.code, answer.error.message)
    span.end()


def _heed_cancellation() -> None:
    """Raises the cancellation that a task group forgets when it fails in the same moment (Python before 3.13)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _first(errors: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
