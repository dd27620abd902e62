"""What an agent and a capture process say to each other."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

FRAME = b"f"
STATUS = b"s"
LENGTHS = struct.Struct(">II")
"""Lengths in bytes of the JSON header and of the JPEG that follow."""

Phase = Literal["opening", "open", "ended", "failed"]
Clock = Literal["sender", "stream", "arrival", "played"]


@dataclass(frozen=True)
class FrameHeader:
    """What is known of a frame besides its JPEG.

    capture_time: seconds since 1970. clock: what that rests on (see `CaptureClock`); "played" for a file, whose frames
    are taken when they are played. height, width: pixels of the JPEG. is_cut: a file has started again before it.
    position: seconds on the file's own clock, where it is not played at its own pace.
    """

    capture_time: float
    clock: Clock
    height: int
    width: int
    is_cut: bool
    position: float | None = None


@dataclass(frozen=True)
class Report:
    """How a source is.

    phase: "opening", "open", "ended" or "failed". reason: why it failed. arrived: frames that came from the source.
    skipped: frames that a newer one replaced before anybody took them, or that were broken. idle_seconds: how long it
    has been waiting for the source. codec, height, width, frames_per_second: as the source says, 0 where it does not.
    """

    phase: Phase
    reason: str
    arrived: int
    skipped: int
    idle_seconds: float
    codec: str
    height: int
    width: int
    frames_per_second: float
    frame: FrameHeader | None
