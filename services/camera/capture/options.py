"""What a capture process is told: where its frames come from, and how they are sent on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SourceKind = Literal["rtsp", "http", "v4l2", "video", "images"]
LIVE: frozenset[SourceKind] = frozenset(("rtsp", "http", "v4l2"))
"""Sources that set their own pace and have no end."""


@dataclass(frozen=True)
class CaptureOptions:
    """One source and what becomes of its frames.

    location: URL, device or path. transport: of RTSP. is_paced: a file's frames come at its own pace, else as fast as
    they are taken, none left out. loop: a file starts again at its end. frames_per_second: the pace of a folder of
    images; of other sources at most this many are kept, all where it is None. max_width, max_height: larger pictures
    are scaled down to fit, keeping their aspect ratio. jpeg_quality: 1..100.
    """

    kind: SourceKind
    location: str
    transport: Literal["tcp", "udp"]
    is_paced: bool
    loop: bool
    frames_per_second: float | None
    max_width: int | None
    max_height: int | None
    jpeg_quality: int

    @property
    def is_live(self) -> bool:
        """Whether the source sets the pace and has no end."""
        return self.kind in LIVE

    @property
    def is_lossless(self) -> bool:
        """Whether every frame is wanted, and the source waits for whoever takes them."""
        return not self.is_live and not self.is_paced


class SourceError(Exception):
    """A source that gives no frames; the message says why."""
