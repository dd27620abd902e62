"""Cameras and a system for the tests of streams: frames are sent by hand, scenes are ready when the test says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Set
from typing import Any

from google.protobuf import duration_pb2
from perception.v1 import perception_pb2, task_pb2

from services.gateway.streams.registry import Streams
from services.runtime.engines import Priority
from services.runtime.timing import Deadline

TASKS = frozenset(task for task in task_pb2.Task.values() if task)


class System:
    """Stands for the perceiver where timing must be exact: a frame is at work until the test finishes it.

    outcome: what a finished frame gives, an error to raise or a scene.
    """

    tasks = TASKS

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.at_work: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []
        self.most_at_work = 0
        self.deadlines: dict[str, float] = {}
        self.priorities: dict[str, Priority] = {}
        self.left_out: dict[str, Set[int]] = {}
        self.outcome: Callable[[str], perception_pb2.PerceiveResponse] = lambda name: scene()
        self.cancelled: list[str] = []

    async def perceive(
        self, request: perception_pb2.PerceiveRequest, deadline: Deadline, priority: Priority, left_out: Set[int]
    ) -> perception_pb2.PerceiveResponse:
        name = request.image.encoded.decode()
        self.begun.append(name)
        self.at_work[name] = asyncio.Event()
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        self.deadlines[name] = deadline.remaining("test")
        self.priorities[name], self.left_out[name] = priority, left_out
        try:
            if self.seconds is None:
                await self.at_work[name].wait()
            else:
                await asyncio.sleep(self.seconds)
            return self.outcome(name)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            del self.at_work[name]

    async def finish(self, name: str) -> None:
        """Lets a frame be done."""
        self.at_work[name].set()
        await settle()


def scene(*boxes: tuple[float, float, float, float]) -> perception_pb2.PerceiveResponse:
    """A scene with one thing in each box."""
    found = perception_pb2.PerceiveResponse()
    for index, (left, top, right, bottom) in enumerate(boxes, 1):
        thing = found.panoptic.segments.add(id=index, category_id=1, is_thing=True, score=0.9)
        thing.box.x_min, thing.box.y_min, thing.box.x_max, thing.box.y_max = left, top, right, bottom
    return found


class Camera:
    """One camera's stream: what it sends, and the answers that it has taken."""

    def __init__(self, streams: Streams, name: str = "gate", **options: Any) -> None:
        if "deadline_seconds" in options:
            seconds = options.pop("deadline_seconds")
            options["deadline"] = duration_pb2.Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
        self.options = perception_pb2.StreamOptions(camera=name, **options)
        self.name = name
        self.read = 0
        self.answers: list[perception_pb2.PerceiveStreamResponse] = []
        self._sent: asyncio.Queue[perception_pb2.PerceiveStreamRequest | None] = asyncio.Queue()
        self._first = True
        self._stream = streams.serve(self._requests())

    async def _requests(self) -> AsyncIterator[perception_pb2.PerceiveStreamRequest]:
        while (request := await self._sent.get()) is not None:
            self.read += 1
            yield request

    def send(self, sequence: int, age: float | None = None, **fields: Any) -> None:
        """Sends a frame whose picture is its number, taken `age` seconds ago."""
        request = perception_pb2.PerceiveStreamRequest(sequence=sequence, **fields)
        request.frame.image.encoded = f"{self.name}{sequence}".encode()
        if self._first:
            request.options.CopyFrom(self.options)
        if age is not None:
            request.capture_time.FromNanoseconds(round((time.time() - age) * 1e9))
        self._first = False
        self._sent.put_nowait(request)

    def end(self) -> None:
        """Sends no more."""
        self._sent.put_nowait(None)

    async def take(self) -> perception_pb2.PerceiveStreamResponse:
        """Takes the next answer."""
        answer = await asyncio.wait_for(anext(self._stream), 20)
        self.answers.append(answer)
        return answer

    async def take_all(self) -> list[tuple[int, str]]:
        """Takes all answers up to the end: their numbers, and what became of the frames."""
        async for answer in self._stream:
            self.answers.append(answer)
        return [(answer.sequence, what(answer)) for answer in self.answers]

    async def leave(self) -> None:
        """Goes away, as a caller whose connection breaks."""
        await self._stream.aclose()

    @property
    def stream(self) -> AsyncGenerator[perception_pb2.PerceiveStreamResponse, None]:
        """The stream itself."""
        return self._stream


def what(answer: perception_pb2.PerceiveStreamResponse) -> str:
    """What became of a frame, in one word."""
    match answer.WhichOneof("result"):
        case "dropped":
            return perception_pb2.DropReason.Name(answer.dropped.reason).removeprefix("DROP_REASON_").lower()
        case "error":
            return answer.error.code
        case kind:
            return str(kind)


async def settle() -> None:
    """Lets everything happen that can happen now."""
    for _ in range(20):
        await asyncio.sleep(0)
