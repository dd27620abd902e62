"""One camera's stream: frames are read, perceived side by side, and answered in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator

from perception.v1 import perception_pb2

from services.gateway.perceiver import Perceiver
from services.gateway.streams import degradation
from services.gateway.streams import frame as answers
from services.gateway.streams.capacity import Capacity, Claim
from services.gateway.streams.degradation import Ladder
from services.gateway.streams.frame import Answer, Frame, Stamp
from services.gateway.streams.identity import Identity
from services.gateway.streams.options import StreamOptions
from services.gateway.streams.schedule import Place, Schedule
from services.gateway.tasks import had_no_time
from services.runtime import logs, metrics, tracing
from services.runtime.errors import DeadlineExceeded, InvalidInput, Overloaded, ServiceError, Stopping, StreamIdle
from services.runtime.limits import count_breach
from services.runtime.timing import Deadline

Request = perception_pb2.PerceiveStreamRequest
Response = perception_pb2.PerceiveStreamResponse

_METHOD = "/perception.v1.PerceptionService/PerceiveStream"

_LONGEST_STREAM_ID = 100
"""Characters of the stream's request id in those of its frames; the rest is for the frame's number."""

log = logging.getLogger(__name__)


class Stream:
    """One stream, from its first frame to its end.

    Three things go on side by side: frames are read as long as there is room for their answers; the waiting frame is
    put to work when the stream and the system have room for it; answers are taken in order by whoever sends them. All
    of them wait for the state of the schedule to change.
    """

    def __init__(
        self,
        options: StreamOptions,
        max_unanswered: int,
        idle_seconds: float,
        perceiver: Perceiver,
        capacity: Capacity,
        identity: Identity,
    ) -> None:
        self._options = options
        self._idle_seconds = idle_seconds
        self._perceiver = perceiver
        self._capacity = capacity
        self._identity = identity
        self._claim = Claim(options.priority)
        self._schedule: Schedule[Frame, Answer] = Schedule(options.max_in_flight, max_unanswered)
        self._ladder = Ladder()
        self._last_sequence = -1
        self._unanswered = 0
        self._changed = asyncio.Event()
        self._at_work: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._end: Stopping | None = None

    @property
    def camera(self) -> str:
        """What the stream's camera is called."""
        return self._options.camera

    async def answers(self, requests: AsyncIterator[Request]) -> AsyncGenerator[Response, None]:
        """The answer to every frame, in order, those that were received before and those to come.

        Asking for the next one says that the last one was taken. Raises the error of `stop`, and `StreamIdle` where no
        frame comes, after the frames that were read are answered.
        """
        reading = self._reading = asyncio.create_task(self._read(requests))
        dispatching = asyncio.create_task(self._dispatch())
        for task in (reading, dispatching):
            task.add_done_callback(lambda _: self._changed.set())
        try:
            # The dispatcher ends by failing alone.
            while not dispatching.done() and not (reading.done() and self._schedule.idle):
                if answer := self._schedule.next_answer:
                    yield await self._response(answer)
                    self._schedule.taken()
                    self._changed.set()
                else:
                    await self._change()
        finally:
            await _cancel(reading, dispatching, *self._at_work)
            self._abandon()
        for task in (reading, dispatching):
            if not task.cancelled():
                task.result()
        if self._end is not None and reading.cancelled():
            raise self._end

    def stop(self, end: Stopping) -> None:
        """Reads no more frames; the stream ends with this error when those that were read are answered."""
        self._end = end
        if self._reading is not None:
            self._reading.cancel()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _read(self, requests: AsyncIterator[Request]) -> None:
        while True:
            while not self._schedule.may_arrive:
                await self._change()
            try:
                async with asyncio.timeout(self._idle_seconds):
                    request = await anext(requests)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise StreamIdle(self._idle_seconds) from None
            if request.HasField("options"):
                self._refuse(request, InvalidInput("options", "is set again: expected with the first frame only"))
            else:
                self.receive(request)
            # Or it would stay, with its picture, until another one comes.
            del request

    def receive(self, request: Request) -> None:
        """Takes a frame in. The first one, which says what the stream is to be, comes before `answers`."""
        last = self._last_sequence
        if request.sequence <= last:
            description = f"is {request.sequence} after {last}: expected a greater one"
            self._refuse(request, InvalidInput("sequence", description))
            return
        self._last_sequence = request.sequence
        stamp = self._stamp(request)
        frame = Frame(stamp, request.frame, self._options.deadline_seconds)
        if stamp.sequence <= self._options.answered:
            self._schedule.arrive_answered(answers.already_answered(stamp, self._options.answered))
        elif frame.unhurried_seconds <= 0:
            self._schedule.arrive_answered(answers.too_old(frame))
        elif (older := self._schedule.arrive(frame)) is not None and older.frame is not None:
            self._schedule.answer(older, answers.superseded(older.frame.stamp))
        self._changed.set()

    def _stamp(self, request: Request) -> Stamp:
        about: tracing.Attributes = {"perception.camera": self._options.camera, "perception.sequence": request.sequence}
        self._unanswered += 1
        return Stamp.of(request, tracing.tracer.frame(_METHOD, about, traceparent=request.traceparent))

    def _refuse(self, request: Request, fault: InvalidInput) -> None:
        self._schedule.arrive_answered(answers.error(self._stamp(request), fault.code.name, str(fault)))
        self._changed.set()

    async def _dispatch(self) -> None:
        while True:
            while not self._schedule.may_start:
                await self._change()
            self._begin(await self._turn())

    def _begin(self, granted: bool) -> None:
        """Puts the waiting frame to work where it was granted its turn and has the time."""
        # While this stream waited for its turn, a newer frame may have come.
        waiting = self._schedule.waiting
        frame = waiting.frame if waiting is not None else None
        if frame is None:
            raise RuntimeError("the waiting frame is gone")
        if granted and frame.unhurried_seconds > 0:
            self._put_to_work(self._schedule.start(), frame)
            return
        if frame.unhurried_seconds <= 0:
            self._schedule.answer(self._schedule.withdraw(), answers.too_old(frame))
            self._note(self._ladder.level, frame, complete=False)
            self._changed.set()
        if granted:
            self._capacity.give_back()

    async def _turn(self) -> bool:
        """Waits for the stream's turn, but no longer than the waiting frame can."""
        waiting = self._schedule.waiting
        seconds = waiting.frame.unhurried_seconds if waiting is not None and waiting.frame is not None else 0.0
        try:
            async with asyncio.timeout(seconds):
                await self._capacity.take(self._claim)
        except TimeoutError:
            return False
        return True

    def _put_to_work(self, place: Place[Frame, Answer], frame: Frame) -> None:
        task = asyncio.create_task(self._work(place, frame))
        self._at_work.add(task)
        # Also where the task is cancelled before it has begun.
        task.add_done_callback(lambda _: self._capacity.give_back())
        task.add_done_callback(self._at_work.discard)

    async def _work(self, place: Place[Frame, Answer], frame: Frame) -> None:
        logs.request_id.set(f"{logs.request_id.get()[:_LONGEST_STREAM_ID]}-{frame.stamp.sequence}")
        frame.stamp.span.make_current()
        frame.stamp.span.event("put to work")
        level = self._ladder.level
        self._schedule.answer(place, await self._perceive(frame, level))
        self._changed.set()

    async def _perceive(self, frame: Frame, level: perception_pb2.Degradation) -> Answer:
        wanted = frozenset(frame.request.tasks) or self._perceiver.tasks
        left_out = degradation.left_out(level, wanted)
        try:
            found = await self._perceiver.perceive(
                frame.request, Deadline(frame.remaining), self._options.priority, left_out
            )
        except (DeadlineExceeded, Overloaded) as fault:
            self._note(level, frame, complete=False)
            return answers.error(frame.stamp, fault.code.name, str(fault))
        except ServiceError as fault:
            count_breach(fault)
            return answers.error(frame.stamp, fault.code.name, str(fault))
        except Exception:  # a defect; the stream goes on
            log.exception("cannot perceive the frame")
            return answers.error(frame.stamp, "INTERNAL", "internal error")
        self._note(level, frame, complete=not any(had_no_time(status) for status in found.task_status))
        return answers.scene(frame.stamp, found, degradation.reported(left_out))

    def _note(self, level: perception_pb2.Degradation, frame: Frame, complete: bool) -> None:
        before = self._ladder.level
        self._ladder.note(level, frame.stamp.age / frame.deadline_seconds, complete)
        now = self._ladder.level
        if now != before:
            name = perception_pb2.Degradation.Name(now)
            log.info("degradation changes", extra={"camera": self._options.camera, "degradation": name})
            metrics.STREAM_DEGRADATION.labels(self._options.camera).set(now)

    async def _response(self, answer: Answer) -> Response:
        stamp, response = answer.stamp, answer.response
        with stamp.span as span:
            await self._identify(stamp, response)
            span.set("perception.result", answer.result)
            if response.HasField("error"):
                span.fail(response.error.code, response.error.message)
        metrics.STREAM_FRAMES.labels(answer.result).inc()
        self._unanswered -= 1
        return response

    async def _identify(self, stamp: Stamp, response: Response) -> None:
        """Adds what is only known in the order of answers: tracks, their epoch, the frame's age."""
        if stamp.reset_tracks:
            self._identity.reset()
        if response.HasField("scene"):
            with tracing.tracer.span("track"):
                await self._identity.follow(response.scene, stamp.track_seconds)
            metrics.STREAM_ANSWER_AGE.observe(stamp.age)
        response.epoch = self._identity.epoch
        response.age_microseconds = stamp.age_microseconds
        response.trace_id = stamp.span.trace_id

    def _abandon(self) -> None:
        """Counts the frames that nobody waits for any more, and ends their spans."""
        metrics.STREAM_FRAMES_ABANDONED.inc(self._unanswered)
        for place in self._schedule.unanswered:
            of = place.frame or place.answer
            if of is not None:
                of.stamp.span.fail("CANCELLED", "the stream ended before the answer was sent")
                of.stamp.span.end()


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
