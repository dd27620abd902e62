"""Driving a system: calls by a schedule, calls one after the other, and the streams of cameras."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import grpc
import grpc.aio
from perception.caller import NOBODY, Caller
from perception.channels import channel_options
from perception.client import MAX_MESSAGE_BYTES
from perception.connections import open_async_channel
from perception.v1 import perception_pb2, perception_pb2_grpc

from loadtest import arrivals
from loadtest.book import Book
from loadtest.plan import Closed, Open, Plan, Streams

_CONNECTIONS = 4
"""Of a process in an open loop: calls of unrelated callers do not share one."""
_MOST_IN_FLIGHT = 1000
"""Calls of a process at once; what is due beyond waits here, and its latency goes on."""
_PAUSE_SECONDS = 0.1
"""Of a client of a closed loop whose call failed."""
_NOT_SENT = ("DEADLINE_EXCEEDED", "could not be sent before its time was over")
_UNARY_OPTIONS = channel_options(MAX_MESSAGE_BYTES, retried=())


@dataclass(frozen=True)
class Share:
    """What one process has to do. requests: a message for each frame. begin: the moment of the monotonic clock at which
    the load starts; it ends `seconds` later.
    """

    plan: Plan
    process: int
    requests: Sequence[perception_pb2.PerceiveRequest]
    begin: float
    seconds: float


async def drive(share: Share, book: Book) -> None:
    """Sends one process's share of the load, and returns when every frame has its answer or its time is over."""
    match share.plan.load:
        case Open() as load:
            await _open_loop(load, share, book)
        case Closed() as load:
            await _closed_loop(load, share, book)
        case Streams() as load:
            mine = range(share.process, load.cameras, share.plan.processes)
            async with asyncio.TaskGroup() as cameras:
                for number in mine:
                    cameras.create_task(_Camera(load, number, share, book).run())


def connect(address: str, caller: Caller = NOBODY) -> grpc.aio.Channel:
    """A connection that is shared with no other channel, and that makes no failed call again: each one counts."""
    options = [*_UNARY_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    return open_async_channel(address, options, caller.tls, caller.token)


async def _open_loop(load: Open, share: Share, book: Book) -> None:
    plan = share.plan
    due_times = arrivals.open_loop(load, share.process, plan.processes, plan.seed, share.seconds)
    callers = [_Caller(share, book) for _ in range(_CONNECTIONS)]
    room = asyncio.Semaphore(_MOST_IN_FLIGHT)

    async def call(number: int, due: float) -> None:
        async with room:
            await callers[number % _CONNECTIONS].perceive(number * plan.processes + share.process, due)

    async with asyncio.TaskGroup() as calls:
        for number, offset in enumerate(due_times):
            due = share.begin + offset
            await _sleep_until(due)
            book.due(due)
            book.woken(due)
            calls.create_task(call(number, due))
    for caller in callers:
        await caller.close()


async def _closed_loop(load: Closed, share: Share, book: Book) -> None:
    async def client(number: int) -> None:
        caller = _Caller(share, book)
        await _sleep_until(share.begin)
        frame = number
        while (now := time.monotonic()) < share.begin + share.seconds:
            book.due(now)
            answered = await caller.perceive(frame, now)
            frame += 1
            if not answered:
                await asyncio.sleep(_PAUSE_SECONDS)
        await caller.close()

    async with asyncio.TaskGroup() as clients:
        for number in range(share.process, load.clients, share.plan.processes):
            clients.create_task(client(number))


class _Caller:
    """A connection that perceives single frames."""

    def __init__(self, share: Share, book: Book) -> None:
        self._channel = connect(share.plan.address, share.plan.caller)
        self._stub: perception_pb2_grpc.PerceptionServiceAsyncStub = perception_pb2_grpc.PerceptionServiceStub(
            self._channel
        )
        self._share = share
        self._book = book

    async def perceive(self, frame: int, due: float) -> bool:
        """Perceives the frame of that number; whether there was a scene."""
        requests, timeout_seconds = self._share.requests, self._share.plan.timeout_seconds
        sent = time.monotonic()
        if sent - due > timeout_seconds:
            self._book.error(due, *_NOT_SENT)
            return False
        self._book.in_flight += 1
        try:
            answer = await self._stub.Perceive(requests[frame % len(requests)], timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            self._book.error(due, error.code().name, error.details() or "")
            return False
        finally:
            self._book.in_flight -= 1
        self._book.scene(due, sent, answer)
        return True

    async def close(self) -> None:
        await self._channel.close()


class _Camera:
    """One camera: frames as they are due, over a stream that is opened anew when it breaks."""

    def __init__(self, load: Streams, number: int, share: Share, book: Book) -> None:
        self._load = load
        self._number = number
        self._share = share
        self._book = book
        self._channel = connect(share.plan.address, share.plan.caller)
        self._stub: perception_pb2_grpc.PerceptionServiceAsyncStub = perception_pb2_grpc.PerceptionServiceStub(
            self._channel
        )
        # The monotonic clock's zero by the clock that everybody has.
        self._epoch = time.time() - time.monotonic()

    async def run(self) -> None:
        timeout_seconds = self._share.plan.timeout_seconds
        call: _Call | None = None
        free_since = 0.0
        for sequence, due in enumerate(self._due_times(), start=1):
            await _sleep_until(due)
            self._book.due(due)
            # While the gateway takes no more frames, it is not this process that is late.
            self._book.woken(max(due, free_since))
            if time.monotonic() - due > timeout_seconds:
                self._book.error(due, *_NOT_SENT)
                continue
            if call is None or call.is_over:
                call = _Call(self._stub, self._book, timeout_seconds)
                options = self._options()
            else:
                options = None
            await call.send(self._request(sequence, due, options), due)
            free_since = time.monotonic()
        if call is not None:
            await call.finish()
        await self._channel.close()

    def _due_times(self) -> Iterator[float]:
        share = self._share
        for offset in arrivals.camera(self._load, self._number, share.plan.seed, share.seconds):
            yield share.begin + offset

    def _options(self) -> perception_pb2.StreamOptions:
        load = self._load
        options = perception_pb2.StreamOptions(
            camera=f"loadtest-{self._number}", max_in_flight=load.max_in_flight or 0, track=load.track
        )
        if load.deadline_seconds is not None:
            options.deadline.FromMicroseconds(round(load.deadline_seconds * 1e6))
        return options

    def _request(
        self, sequence: int, due: float, options: perception_pb2.StreamOptions | None
    ) -> perception_pb2.PerceiveStreamRequest:
        requests = self._share.requests
        request = perception_pb2.PerceiveStreamRequest(
            # Cameras that show the same film do not show the same moment of it.
            sequence=sequence,
            frame=requests[(sequence + self._number) % len(requests)],
            options=options,
        )
        request.capture_time.FromNanoseconds(round((self._epoch + due) * 1e9))
        return request


class _Call:
    """One call of a stream and the frames that it has not answered yet, with the moments they were due and sent."""

    def __init__(
        self, stub: perception_pb2_grpc.PerceptionServiceAsyncStub, book: Book, timeout_seconds: float
    ) -> None:
        self._call = stub.PerceiveStream()
        self._book = book
        self._timeout_seconds = timeout_seconds
        self._waiting: dict[int, tuple[float, float]] = {}
        self._end = ("UNKNOWN", "the stream ended without an answer")
        self._receiving = asyncio.create_task(self._receive())

    @property
    def is_over(self) -> bool:
        return self._receiving.done()

    async def send(self, request: perception_pb2.PerceiveStreamRequest, due: float) -> None:
        self._waiting[request.sequence] = (due, time.monotonic())
        self._book.in_flight += 1
        writing = asyncio.ensure_future(self._call.write(request))
        written, _ = await asyncio.wait((writing,), timeout=self._timeout_seconds)
        if not written:
            await self._give_up(f"the gateway took no frame for {self._timeout_seconds:g} s")
        (failure,) = await asyncio.gather(writing, return_exceptions=True)
        if failure is not None:
            await asyncio.wait((self._receiving,), timeout=self._timeout_seconds)
            await self._give_up(f"the frame cannot be written: {failure}")
        # What has ended the call is what every frame without an answer is told, this one too.
        if self.is_over:
            self._fail()

    async def finish(self) -> None:
        """Waits for the answers to what was sent."""
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()
        await asyncio.wait((self._receiving,), timeout=self._timeout_seconds)
        await self._give_up(f"no answer within {self._timeout_seconds:g} s of the last frame")

    async def _give_up(self, message: str) -> None:
        if not self.is_over:
            self._end = ("DEADLINE_EXCEEDED", message)
            self._call.cancel()
            await asyncio.wait((self._receiving,))

    async def _receive(self) -> None:
        try:
            async for answer in self._call:
                self._answered(answer)
        except grpc.aio.AioRpcError as error:
            self._end = (error.code().name, error.details() or "")
        finally:
            self._fail()

    def _answered(self, answer: perception_pb2.PerceiveStreamResponse) -> None:
        due, sent = self._waiting.pop(answer.sequence)
        self._book.in_flight -= 1
        match answer.WhichOneof("result"):
            case "scene":
                self._book.scene(due, sent, answer.scene)
            case "dropped":
                reason = perception_pb2.DropReason.Name(answer.dropped.reason)
                self._book.dropped(due, reason.removeprefix("DROP_REASON_").lower())
            case _:
                self._book.error(due, answer.error.code, answer.error.message)

    def _fail(self) -> None:
        for due, _ in self._waiting.values():
            self._book.error(due, *self._end)
            self._book.in_flight -= 1
        self._waiting.clear()


async def _sleep_until(moment: float) -> None:
    if (seconds := moment - time.monotonic()) > 0:
        await asyncio.sleep(seconds)
