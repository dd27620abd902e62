"""Reads a source in a thread of its own and keeps the newest frame at hand."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from services.camera.capture.clock import CaptureClock, Pace, Thinning
from services.camera.capture.jpeg import Picture
from services.camera.capture.options import CaptureOptions, SourceError
from services.camera.capture.protocol import Clock, FrameHeader, Phase, Report
from services.camera.capture.readers import RawFrame, SourceInfo, read_frames


@dataclass(frozen=True)
class Taken:
    """A frame and when it was taken, in seconds since 1970.

    position: seconds on the source's own clock, where that is not the pace at which it is read.
    """

    picture: Picture
    capture_time: float
    clock: Clock
    is_cut: bool
    position: float | None = None


class _Stopped(Exception):
    """The capture is to end."""


class Capture:
    """One source, read until it ends, fails or is stopped; never raises, `report` tells.

    One frame is kept: the newest, or for a lossless source the next, which then waits until it is taken.
    """

    def __init__(self, options: CaptureOptions) -> None:
        self._options = options
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._changed = threading.Condition()
        self._frame: Taken | None = None
        self._info = SourceInfo("", 0, 0, 0.0)
        self._phase: Phase = "opening"
        self._reason = ""
        self._arrived = self._skipped = 0
        self._idle_since: float | None = time.monotonic()
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begins to open the source."""
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Closes the source, and gives it some seconds for that."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(seconds)

    def take(self, seconds: float) -> Taken | None:
        """The newest frame, if nobody took it before; waits some seconds for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._phase in ("ended", "failed"), seconds)
            taken, self._frame = self._frame, None
            self._changed.notify_all()
            return taken

    def count_broken(self) -> None:
        """A frame that was taken turned out to be broken."""
        with self._changed:
            self._skipped += 1

    def report(self, frame: FrameHeader | None = None) -> Report:
        """How the source is, with the frame that goes along."""
        with self._changed:
            # The frame that goes along comes before the end.
            phase = "open" if frame is not None else self._phase
            return Report(
                phase=phase,
                reason=self._reason,
                arrived=self._arrived,
                skipped=self._skipped,
                idle_seconds=0.0 if self._idle_since is None else time.monotonic() - self._idle_since,
                codec=self._info.codec,
                height=self._info.height,
                width=self._info.width,
                frames_per_second=self._info.frames_per_second,
                frame=frame,
            )

    def _run(self) -> None:
        try:
            self._read()
        except _Stopped:
            pass
        except SourceError as error:
            self._end("failed", str(error))
        except Exception as error:  # a defect; the agent must learn of it, and tries again
            self._end("failed", f"{type(error).__name__}: {error}")
        else:
            self._end("ended", "")

    def _end(self, phase: Phase, reason: str) -> None:
        with self._changed:
            self._phase, self._reason = phase, reason
            self._changed.notify_all()

    def _opened(self, info: SourceInfo) -> None:
        with self._changed:
            self._info, self._phase = info, "open"
        self._idle_since = time.monotonic()

    def _read(self) -> None:
        clock = CaptureClock()
        pace = Pace(time.monotonic, self._sleep)
        # A folder's rate is its pace, not a limit.
        limit = None if self._options.kind == "images" else self._options.frames_per_second
        thinning = Thinning(limit)
        is_cut = False
        for frame in read_frames(self._options, self._opened):
            self._idle_since = None
            if frame.is_cut:
                is_cut = True
                pace.restart()
                thinning = Thinning(limit)
            taken = self._date(frame, clock, pace, is_cut=is_cut)
            with self._changed:
                self._arrived += 1
            if thinning.keeps(frame.position or 0.0 if self._options.is_lossless else taken.capture_time):
                self._put(taken)
                is_cut = False
            self._idle_since = time.monotonic()
            self._check_stop()
        if self._options.is_lossless:
            self._wait_until_taken()

    def _date(self, frame: RawFrame, clock: CaptureClock, pace: Pace, *, is_cut: bool) -> Taken:
        """The frame with its capture time; of a file, once it is due."""
        if self._options.is_live:
            capture_time, of_clock = clock.capture_time(frame.position, frame.sender_time, time.time())
            return Taken(frame.picture, capture_time, of_clock, is_cut)
        if self._options.is_paced:
            pace.wait_for(frame.position or 0.0)
            return Taken(frame.picture, time.time(), "played", is_cut)
        return Taken(frame.picture, time.time(), "played", is_cut, frame.position)

    def _put(self, taken: Taken) -> None:
        with self._changed:
            if self._options.is_lossless:
                self._wait_until_taken()
            if self._frame is not None:
                self._skipped += 1
                # What is left out may be the cut itself, which the next frame then stands for.
                taken = replace(taken, is_cut=taken.is_cut or self._frame.is_cut)
            self._frame = taken
            self._changed.notify_all()

    def _wait_until_taken(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._frame is None or self._stopping.is_set())
        self._check_stop()

    def _sleep(self, seconds: float) -> None:
        self._stopping.wait(seconds)
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise _Stopped
