"""A load that stays the same for long: single calls and two cameras' streams at a given rate."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count, cycle

import cv2
from perception import PerceptionClient, PerceptionError

from models.datasets.scenes import SceneSequence
from tests.support.threads import in_threads

CAMERAS = ("soak-1", "soak-2")
CALLERS = 8
"""Single calls that may wait for their answers at once; where all do, the next one is late."""
_CLOSED_CALLERS = 4
_RETRY_SECONDS = 0.5


def frames(length: int = 25) -> list[bytes]:
    """A street and a conveyor, JPEG files of 640 x 480."""
    shown = [sample.image for world in ("street", "line") for sample in SceneSequence(world, 9001, length)]
    return [cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 90))[1].tobytes() for image in shown]


def capacity(address: str, seconds: float) -> float:
    """Frames per second that a gateway answers to callers that never pause, after a while to get warm."""
    pictures = cycle(frames())
    lock = threading.Lock()
    end = time.monotonic() + seconds
    half = time.monotonic() + seconds / 2
    answered = 0

    def call(client: PerceptionClient) -> None:
        nonlocal answered
        while time.monotonic() < end:
            with lock:
                picture = next(pictures)
            try:
                client.perceive(picture)
            except PerceptionError:  # a busy machine refuses what it has no time for: that is no capacity
                time.sleep(_RETRY_SECONDS)
                continue
            with lock:
                answered += time.monotonic() > half

    with PerceptionClient(address) as client, ThreadPoolExecutor(_CLOSED_CALLERS) as callers:
        list(callers.map(call, [client] * _CLOSED_CALLERS))
    return answered / (time.monotonic() - half)


class SteadyLoad:
    """Half of a rate, in frames per second, by single calls and half by streams, from `with` on to its end.

    answered, dropped, failed: frames by what became of them. failures: codes of those that failed.
    """

    def __init__(self, address: str, frames_per_second: float) -> None:
        self.answered = self.dropped = self.failed = 0
        self.failures: Counter[str] = Counter()
        self._address = address
        self._pictures = frames()
        self._interval = 2 / frames_per_second
        self._lock = threading.Lock()
        self._calls = count()

    def __enter__(self) -> SteadyLoad:
        self._began = time.monotonic()
        streams = [partial(self._stream, camera) for camera in CAMERAS]
        with ExitStack() as stack:
            self._client = stack.enter_context(PerceptionClient(self._address))
            stack.enter_context(in_threads(*[self._call_on_time] * CALLERS, *streams))
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _call_on_time(self, over: threading.Event) -> None:
        while not over.is_set():
            with self._lock:
                number = next(self._calls)
            if over.wait(max(0.0, self._began + number * self._interval - time.monotonic())):
                return
            try:
                self._client.perceive(self._pictures[number % len(self._pictures)])
            except PerceptionError as error:
                self._note_failure(error.code.name)
            else:
                with self._lock:
                    self.answered += 1

    def _stream(self, camera: str, over: threading.Event) -> None:
        while not over.is_set():
            try:
                for answer in self._client.stream(self._film(over), camera=camera, deadline=5.0, track=True):
                    if answer.error:
                        self._note_failure(answer.error.code)
                        continue
                    with self._lock:
                        self.answered += answer.scene is not None
                        self.dropped += answer.dropped is not None
            except PerceptionError as error:
                self._note_failure(error.code.name)
                over.wait(_RETRY_SECONDS)

    def _film(self, over: threading.Event) -> Iterator[bytes]:
        interval = self._interval * len(CAMERAS)
        began = time.monotonic()
        for number in count():
            if over.wait(max(0.0, began + number * interval - time.monotonic())):
                return
            yield self._pictures[number % len(self._pictures)]

    def _note_failure(self, code: str) -> None:
        with self._lock:
            self.failed += 1
            self.failures[code] += 1
