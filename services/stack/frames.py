"""The frames of a source: an image, a folder of images, or a video file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v"}
_JPEG_QUALITY = 95


class SourceError(ValueError):
    """A source that no frames can be read from; the message says why."""


@dataclass(frozen=True)
class Frame:
    """One frame. name: unique in its source, without a suffix. data: an encoded picture."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Source:
    """Where frames come from. frames_per_second: of a video, None for pictures."""

    path: Path
    images: tuple[Path, ...]
    video: Path | None
    count: int
    frames_per_second: float | None

    @classmethod
    def open(cls, path: Path) -> Source:
        """Looks at a path. Raises `SourceError` where it is no image, video or folder of images."""
        if path.is_dir():
            images = tuple(sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()))
            if not images:
                raise SourceError(f"{path}: no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}) in this folder")
            return cls(path, images, None, len(images), None)
        if not path.is_file():
            raise SourceError(f"{path}: no such file or folder")
        if path.suffix.lower() in VIDEO_SUFFIXES:
            return cls(path, (), path, *_look_at_video(path))
        return cls(path, (path,), None, 1, None)

    def frames(self, prefix: str = "") -> Iterator[Frame]:
        """Every frame in order, its name after `prefix`. Raises `SourceError` where a video breaks off."""
        stems = Counter(image.stem for image in self.images)
        for image in self.images:
            # a.jpg and a.png of one folder are two frames.
            name = image.stem if stems[image.stem] == 1 else image.name.replace(".", "_")
            yield Frame(prefix + name, image.read_bytes())
        if self.video:
            yield from _video_frames(self.video)


def _look_at_video(path: Path) -> tuple[int, float]:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise SourceError(f"{path}: no video in this file")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 25)
            # Matroska counts neither frames nor the time of a stream, only that of the file.
            seconds = (container.duration or 0) / av.time_base
            return stream.frames or round(seconds * rate), rate
    except av.FFmpegError as error:
        raise SourceError(f"{path}: cannot be read as a video: {error}") from None


def _video_frames(path: Path) -> Iterator[Frame]:
    try:
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
                # A telephone held upright stores its pictures lying, and says by how much to turn them.
                upright = np.rot90(picture, round(frame.rotation / 90))
                yield Frame(f"{path.stem}_{index:06d}", _encode(np.ascontiguousarray(upright)))
    except av.FFmpegError as error:
        raise SourceError(f"{path}: breaks off: {error}") from None


def _encode(picture: NDArray[np.uint8]) -> bytes:
    _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return data.tobytes()
