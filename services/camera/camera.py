"""One camera: keeps its source open, says how it is, and hands over its newest frame."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from perception.v1 import camera_pb2

from services.camera.capture.options import SourceError
from services.camera.capture.protocol import FrameHeader, Report
from services.camera.capture_process import CaptureProcess, capturing
from services.camera.scenes import film_of
from services.camera.settings import CameraSettings, ScenesSettings
from services.camera.status import CameraStatus
from services.runtime.backoff import Backoff

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class CameraFrame:
    """A frame as it is sent: what is known of it, and its JPEG."""

    header: FrameHeader
    jpeg: bytes


class Camera:
    """Follows one source through its life (`run`), and gives its frames to one taker (`next_frame`).

    Nothing is encoded before it is asked for, so the taker always gets the newest frame and none waits here.
    """

    def __init__(self, settings: CameraSettings, status: CameraStatus, random: Random) -> None:
        self._settings = settings
        self._status = status
        self._backoff = Backoff(settings.retry_seconds, settings.max_retry_seconds, random)
        self._asked = asyncio.Event()
        self._answer: asyncio.Future[CameraFrame | None] | None = None
        self._kept: CameraFrame | None = None
        self._is_lossless = settings.capture_options().is_lossless
        self._has_ended = False

    async def run(self) -> None:
        """Opens the source, again and again where it breaks off, until it comes to its end."""
        while True:
            self._status.enter(camera_pb2.CAMERA_STATE_CONNECTING)
            try:
                await self._follow()
                break
            except SourceError as error:
                delay = self._backoff.next_seconds()
                self._status.enter(camera_pb2.CAMERA_STATE_WAITING, str(error), retry_time=time.time() + delay)
                await asyncio.sleep(delay)
                self._status.open_again()
        self._status.enter(camera_pb2.CAMERA_STATE_ENDED, "the source has come to its end")
        self.end()

    def end(self) -> None:
        """No frame will come any more: `next_frame` says so."""
        self._has_ended = True
        self._hand_over(None)

    @property
    def is_over(self) -> bool:
        """Whether no frame will come any more."""
        return self._has_ended and self._kept is None

    async def next_frame(self) -> CameraFrame | None:
        """The newest frame that was not handed over before; waits for one. None once the source has ended."""
        if self._kept is not None:
            frame, self._kept = self._kept, None
            return frame
        if self._has_ended:
            return None
        answer: asyncio.Future[CameraFrame | None] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._asked.set()
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():  # it came in the same moment
                self._keep(answer.result())
            raise
        finally:
            self._asked.clear()
            self._answer = None

    async def _follow(self) -> None:
        """Captures until the source ends. Raises `SourceError` where it breaks off."""
        film = None
        if self._settings.kind == "scenes":
            film = await film_of(ScenesSettings.read(self._settings.source))
        self._status.opening()
        async with capturing(self._settings.capture_options(film)) as process:
            started = time.monotonic()
            streaming_since: float | None = None
            try:
                while not await self._step(process, started):
                    if self._status.state == camera_pb2.CAMERA_STATE_STREAMING:
                        streaming_since = streaming_since or time.monotonic()
            finally:
                if streaming_since is not None:
                    self._backoff.worked(time.monotonic() - streaming_since)

    async def _step(self, process: CaptureProcess, started: float) -> bool:
        """Asks once, and hands over a frame if one came. True: the source has ended."""
        wants_frame = self._asked.is_set()
        report, jpeg = await process.ask(wants_frame=wants_frame)
        self._status.saw(report)
        if report.frame is not None:
            self._hand_over(CameraFrame(report.frame, jpeg))
        match report.phase:
            case "opening" if time.monotonic() - started > self._settings.connect_seconds:
                raise SourceError(f"not open within {self._settings.connect_seconds:g} s")
            case "failed":
                raise SourceError(report.reason)
            case "ended":
                return True
            case "open":
                self._watch(report)
        if not wants_frame:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._asked.wait()
        return False

    def _watch(self, report: Report) -> None:
        """Tells streaming from stalled, and gives up on a source that has been silent for twice the stall limit."""
        limit = self._settings.stall_seconds
        if report.idle_seconds > 2 * limit:
            raise SourceError(f"no frame for {report.idle_seconds:.1f} s")
        if report.idle_seconds > limit:
            self._status.enter(camera_pb2.CAMERA_STATE_STALLED, f"no frame for more than {limit:g} s")
        elif report.arrived:
            self._status.enter(camera_pb2.CAMERA_STATE_STREAMING)

    def _hand_over(self, frame: CameraFrame | None) -> None:
        # Also where who asked has just gone and had no time to say so: another frame would take this one's place.
        self._asked.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(frame)
        else:
            self._keep(frame)

    def _keep(self, frame: CameraFrame | None) -> None:
        """Who asked for the frame has gone: of a lossless source the next one gets it, also after the source's end."""
        if frame is None:
            return
        if self._is_lossless:
            self._kept = frame
        else:
            self._status.skipped()
