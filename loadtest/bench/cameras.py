"""Cameras that keep a gateway as busy as it lets them, and what each of them gets."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Any, Self

import grpc.aio
from perception.v1 import perception_pb2, perception_pb2_grpc

from loadtest.drivers import connect

_DEADLINE_SECONDS = 60


class StreamFailed(RuntimeError):
    """A stream did not do what is measured; the message says which and why."""


@dataclass
class _Camera:
    """One camera's stream, over a connection of its own."""

    name: str
    address: str
    frames: Sequence[perception_pb2.PerceiveRequest]
    sent: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        self._channel = connect(self.address)
        stub: perception_pb2_grpc.PerceptionServiceAsyncStub = perception_pb2_grpc.PerceptionServiceStub(self._channel)
        self._call: grpc.aio.StreamStreamCall[Any, Any] = stub.PerceiveStream()
        self._next_frame = cycle(self.frames)

    async def send(self) -> None:
        self.sent += 1
        request = perception_pb2.PerceiveStreamRequest(sequence=self.sent, frame=next(self._next_frame))
        if self.sent == 1:
            request.options.camera = self.name
            request.options.track = True
            request.options.deadline.seconds = _DEADLINE_SECONDS
        await self._call.write(request)

    async def receive(self) -> None:
        answer: Any = await self._call.read()
        if answer is grpc.aio.EOF:
            raise StreamFailed(f"{self.name}: the gateway ended the stream: {await self._call.details()}")
        if answer.WhichOneof("result") != "scene":
            raise StreamFailed(f"{self.name}: frame {answer.sequence} has no scene: {answer.error}{answer.dropped}")
        self.answered += 1

    async def keep_sending(self) -> None:
        """The next frame as soon as the last one is answered, so that none is superseded; until cancelled."""
        while True:
            await self.send()
            await self.receive()

    async def close(self) -> None:
        self._call.cancel()
        await self._channel.close()


class Cameras:
    """Open streams of a number of cameras. Use as an asynchronous context manager; each has had one frame answered."""

    def __init__(self, address: str, frames: Sequence[perception_pb2.PerceiveRequest], count: int) -> None:
        self._cameras = [_Camera(f"bench-{number}", address, frames) for number in range(count)]

    async def __aenter__(self) -> Self:
        for camera in self._cameras:
            await camera.send()
            await camera.receive()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for camera in self._cameras:
            await camera.close()

    async def saturate(
        self, seconds: float, sample: Callable[[], object] = lambda: None, scenes: float = math.inf
    ) -> list[int]:
        """Every camera sends as fast as it is answered; the scenes that each got. `sample` is called twice a second.

        Ends earlier where so many scenes came to all of them together. Once saturated, cameras send no more. Raises
        `StreamFailed` where a stream ends, or a frame is answered with anything but a scene.
        """
        before = [camera.answered for camera in self._cameras]
        sending = [asyncio.create_task(camera.keep_sending()) for camera in self._cameras]
        end, most = asyncio.get_running_loop().time() + seconds, sum(before) + scenes
        while asyncio.get_running_loop().time() < end and sum(camera.answered for camera in self._cameras) < most:
            await asyncio.wait(sending, timeout=0.5, return_when=asyncio.FIRST_EXCEPTION)
            for ended in (task for task in sending if task.done()):
                ended.result()
            sample()
        got = [camera.answered - answered for camera, answered in zip(self._cameras, before, strict=True)]
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        return got


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness (1984): 1 where all get the same, 1/N where one gets everything, 0 where nobody does."""
    total = sum(shares)
    return total**2 / (len(shares) * sum(share**2 for share in shares)) if total else 0.0
