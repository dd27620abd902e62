"""What takes a camera's answers, and how they are kept from holding up the camera."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from perception.v1 import perception_pb2

from services.camera.gateway_stream import SentFrame
from services.runtime import metrics

_WAITING = 32
"""Answers that may wait for a sink."""

Answer = perception_pb2.PerceiveStreamResponse

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes one camera's answers in order. Used by one thread at a time."""

    def add(self, answer: Answer, sent: SentFrame) -> None:
        """Takes one answer with its frame."""

    def close(self) -> None:
        """Completes what was written."""


class SinkWriter:
    """Feeds a sink in a thread of its own, so that a slow disk or encoder does not hold up the camera.

    is_lossless: whether the camera rather waits for the sink than leaves an answer out. A sink that fails is given up,
    with its error in the log, and the camera goes on.
    """

    def __init__(self, camera: str, kind: str, sink: Sink, *, is_lossless: bool) -> None:
        self._camera = camera
        self._kind = kind
        self._sink = sink
        self._is_lossless = is_lossless
        self._dropped = metrics.CAMERA_SINK_DROPPED.labels(camera, kind)
        self._waiting: asyncio.Queue[tuple[Answer, SentFrame] | None] = asyncio.Queue()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._has_failed = False
        self._thread = ThreadPoolExecutor(1, f"{camera}-{kind}")

    def add(self, answer: Answer, sent: SentFrame) -> None:
        """Passes an answer on, or leaves it out where the sink is too slow or has failed."""
        if self._has_failed or not (self._is_lossless or self._has_room.is_set()):
            self._dropped.inc()
            return
        self._waiting.put_nowait((answer, sent))
        if self._waiting.qsize() >= _WAITING:
            self._has_room.clear()

    async def room(self) -> None:
        """Waits, of a lossless camera, until the sink keeps up: so many answers wait for it at most."""
        if self._is_lossless:
            await self._has_room.wait()

    def end(self) -> None:
        """No answer comes any more."""
        self._waiting.put_nowait(None)

    async def run(self) -> None:
        """Writes until the end, then completes the file."""
        while (item := await self._waiting.get()) is not None:
            if self._waiting.qsize() < _WAITING:
                self._has_room.set()
            if self._has_failed:
                self._dropped.inc()
            else:
                await self._guarded(self._sink.add, *item)
        if not self._has_failed:
            await self._guarded(self._sink.close)
        self._thread.shutdown(wait=False)

    async def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except Exception as error:  # of a disk, an encoder or a malformed answer: none is the camera's concern
            self._has_failed = True
            log.exception("sink given up", extra={"camera": self._camera, "sink": self._kind, "error": str(error)})
