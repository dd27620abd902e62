"""Opens a source for a moment, to see what it gives."""

from __future__ import annotations

import time
from dataclasses import dataclass

from services.camera.capture.options import SourceError
from services.camera.capture.protocol import Report
from services.camera.capture_process import capturing
from services.camera.scenes import film_of
from services.camera.settings import CameraSettings, ScenesSettings

_FRAMES = 30
_SECONDS = 3.0


@dataclass(frozen=True)
class CheckedCamera:
    """What was seen of a source. problem: why it gives no frame; empty where it does."""

    camera: CameraSettings
    problem: str
    codec: str = ""
    size: str = ""
    sent_size: str = ""
    frames_per_second: float = 0.0
    delay_seconds: float = 0.0

    @property
    def works(self) -> bool:
        """Whether frames came."""
        return not self.problem

    def row(self) -> tuple[str, ...]:
        """The cells of a table for people."""
        seen = (
            (f"{self.frames_per_second:.1f}", f"{self.delay_seconds * 1e3:.0f}", "[green]works")
            if self.works
            else ("", "", f"[red]{self.problem}")
        )
        return (self.camera.name, self.camera.kind, self.codec, self.size, self.sent_size, *seen)


async def check_camera(camera: CameraSettings) -> CheckedCamera:
    """Takes frames for three seconds at most, once the source is open."""
    try:
        film = await film_of(ScenesSettings.read(camera.source)) if camera.kind == "scenes" else None
        async with capturing(camera.capture_options(film)) as process:
            started = time.monotonic()
            first: float | None = None
            delays: list[float] = []
            sent_size = ""
            while True:
                report, _ = await process.ask(wants_frame=True)
                now = time.monotonic()
                if report.frame is not None:
                    first = first or now
                    delays.append(time.time() - report.frame.capture_time)
                    sent_size = f"{report.frame.width}x{report.frame.height}"
                if report.phase == "failed" and not delays:
                    raise SourceError(report.reason)
                if report.phase in ("failed", "ended") or len(delays) == _FRAMES or (first and now > first + _SECONDS):
                    break
                if first is None and now > started + camera.connect_seconds:
                    raise SourceError(f"no frame within {camera.connect_seconds:g} s")
            return _seen(camera, report, sent_size, delays, now - (first or now))
    except SourceError as error:
        return CheckedCamera(camera, str(error))


def _seen(camera: CameraSettings, report: Report, sent_size: str, delays: list[float], seconds: float) -> CheckedCamera:
    if not delays:
        return CheckedCamera(camera, "ended without a frame")
    measured = (len(delays) - 1) / seconds if seconds else 0.0
    return CheckedCamera(
        camera,
        "",
        report.codec,
        f"{report.width}x{report.height}",
        sent_size,
        report.frames_per_second or measured,
        sorted(delays)[len(delays) // 2],
    )
