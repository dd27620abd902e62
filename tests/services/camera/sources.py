"""Settings of cameras, and small sources whose frames are known."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import simplejpeg

from services.camera.settings import CameraSettings


def camera(source: object, **settings: Any) -> CameraSettings:
    """A camera's settings, with short waits."""
    values = {"name": "gate", "source": str(source), "retry_seconds": 0.1, "max_retry_seconds": 0.2}
    return CameraSettings.model_validate(values | settings)


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """RGB uint8 [height, width, 3] of one grey that tells the frame's number, 0 to 24."""
    return np.full((height, width, 3), number * 10, np.uint8)


def number_of(jpeg: bytes) -> int:
    """The number that `picture` was given, back from a JPEG."""
    return round(float(simplejpeg.decode_jpeg(jpeg, "RGB").mean()) / 10)


def jpegs(count: int, height: int = 48, width: int = 64) -> list[bytes]:
    """`picture` of 0, 1, 2 … as JPEG files."""
    return [simplejpeg.encode_jpeg(picture(number, height, width), 95, "RGB") for number in range(count)]


def write_film(path: Path, count: int, frames_per_second: int) -> Path:
    """An H.264 film of `picture` 0, 1, 2 …"""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_second), options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])
