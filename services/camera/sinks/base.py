"""What takes a camera's answers, and how they are kept from holding up the camera."""

from __future__ import annotations

import asyncio
import logging
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
    """Feeds a sink in a thread, so that a slow disk or encoder does not hold up the camera.

    is_lossless: whether the camera rather waits for the sink than leaves an answer out. A sink that fails is given up,
    with its error in the log, and the camera goes on.
    """

    def __init__(self, camera: str, kind: str, sink: Sink, *, is_lossless: bool) -> None:
        self._camera = camera
        self._kind = kind
        self._sink = sink
        self._is_lossless = is_lossless
        self._dropped = metrics.CAMERA_SINK_DROPPED.labels(camera, kind)
        self._waiting: asyncio.Queue[tuple[Answer, SentFrame] | None] = asyncio.Queue(_WAITING)
        self._has_failed = False

    async def add(self, answer: Answer, sent: SentFrame) -> None:
        """Passes an answer on, or leaves it out where the sink is too slow or has failed."""
        if self._is_lossless and not self._has_failed:
            await self._waiting.put((answer, sent))
            return
        try:
            self._waiting.put_nowait((answer, sent))
        except asyncio.QueueFull:
            self._dropped.inc()

    async def end(self) -> None:
        """No answer comes any more."""
        await self._waiting.put(None)

    async def run(self) -> None:
        """Writes until the end, then completes the file."""
        while (item := await self._waiting.get()) is not None:
            if self._has_failed:
                self._dropped.inc()
                continue
            await self._guarded(self._sink.add, *item)
        if not self._has_failed:
            await self._guarded(self._sink.close)

    async def _guarded(self, work: object, *arguments: object) -> None:
        try:
            await asyncio.to_thread(work, *arguments)  # type: ignore[arg-type]
        except Exception as error:  # of a disk, an encoder or a malformed answer: none is the camera's concern
            self._has_failed = True
            log.exception("sink given up", extra={"camera": self._camera, "sink": self._kind, "error": str(error)})
