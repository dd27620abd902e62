"""Those who watch a camera over the network."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perception.v1 import camera_pb2, perception_pb2

from services.camera.gateway_stream import SentFrame
from services.camera.status import timestamp

_CHANGES = 32
"""Changes of state that are kept for a watcher that reads slowly; the oldest go first."""

Status = Callable[[], camera_pb2.CameraStatus]
Answer = perception_pb2.PerceiveStreamResponse


class Watcher:
    """What one watcher has not read yet: changes of state, and the newest answered frame."""

    def __init__(self, status: Status, max_frames_per_second: float) -> None:
        self._status = status
        self._interval = 1 / max_frames_per_second if max_frames_per_second else 0.0
        self._due = 0.0
        self._changes: deque[camera_pb2.CameraStatus] = deque([status()], _CHANGES)
        self._newest: tuple[Answer, SentFrame] | None = None
        self._is_over = False
        self._news = asyncio.Event()
        self._news.set()

    def changed(self) -> None:
        """The camera's state has changed."""
        self._changes.append(self._status())
        self._news.set()

    def answered(self, answer: Answer, sent: SentFrame) -> None:
        """A frame was answered; it replaces one that was not read."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = max(self._due + self._interval, now)
        self._newest = (answer, sent)
        self._news.set()

    def end(self) -> None:
        """Nothing more will come."""
        self._is_over = True
        self._news.set()

    async def next(self, *, include_picture: bool) -> camera_pb2.WatchCameraResponse | None:
        """What to tell next, changes of state first; waits for it. None: nothing more will come."""
        await self._news.wait()
        if self._changes:
            return camera_pb2.WatchCameraResponse(status=self._changes.popleft())
        if self._newest is not None:
            (answer, sent), self._newest = self._newest, None
            return camera_pb2.WatchCameraResponse(
                status=self._status(),
                capture_time=timestamp(sent.frame.header.capture_time),
                picture=sent.frame.jpeg if include_picture else b"",
                answer=answer,
            )
        if self._is_over:
            return None
        self._news.clear()
        return await self.next(include_picture=include_picture)


class Watchers:
    """All who watch one camera. Telling them never waits, and costs nothing where there are none."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._is_over = False

    @contextmanager
    def watching(self, status: Status, max_frames_per_second: float) -> Iterator[Watcher]:
        """A new watcher, which begins with the camera's status."""
        watcher = Watcher(status, max_frames_per_second)
        if self._is_over:
            watcher.end()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def count(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    def changed(self) -> None:
        """The camera's state has changed."""
        for watcher in self._watchers:
            watcher.changed()

    def answered(self, answer: Answer, sent: SentFrame) -> None:
        """A frame of the camera was answered."""
        for watcher in self._watchers:
            watcher.answered(answer, sent)

    def end(self) -> None:
        """The camera's stream is over."""
        self._is_over = True
        for watcher in self._watchers:
            watcher.end()
