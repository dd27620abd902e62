"""A frame as the JPEG that is sent."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from services.camera.capture.options import CaptureOptions, SourceError


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file and its size in pixels, as displayed."""

    data: bytes
    height: int
    width: int

    @classmethod
    def read(cls, data: bytes) -> Jpeg:
        """A JPEG as a camera gives it. Raises `SourceError` where it is none."""
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError as error:
            raise SourceError(f"broken JPEG: {error}") from None
        return cls(data, height, width)


Picture = Jpeg | av.VideoFrame | NDArray[np.uint8]
"""A JPEG, a decoded frame of a video, or RGB uint8 [H, W, 3]."""


def fitted(height: int, width: int, options: CaptureOptions) -> tuple[int, int]:
    """Height and width that a picture has when it is scaled down to the largest that is allowed."""
    scale = min(1.0, (options.max_height or height) / height, (options.max_width or width) / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def to_jpeg(picture: Picture, options: CaptureOptions) -> Jpeg:
    """The picture as JPEG, scaled down where it is too large. A JPEG that is small enough stays as it is.

    Raises `SourceError` for a JPEG that cannot be decoded.
    """
    if isinstance(picture, Jpeg):
        height, width = fitted(picture.height, picture.width, options)
        if (height, width) == (picture.height, picture.width):
            return picture
        try:
            # The decoder's own scaling, as far as it goes, saves most of the work.
            pixels = simplejpeg.decode_jpeg(picture.data, "RGB", min_height=height, min_width=width, min_factor=1)
        except ValueError as error:
            raise SourceError(f"broken JPEG: {error}") from None
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    elif isinstance(picture, np.ndarray):
        height, width = fitted(picture.shape[0], picture.shape[1], options)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    else:
        frame = picture
        quarter_turns = round(frame.rotation / 90) % 4
        if quarter_turns:  # as a telephone writes a film that was taken upright
            upright = np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(upright, np.uint8), format="rgb24")
        height, width = fitted(frame.height, frame.width, options)
    scaled = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(scaled), options.jpeg_quality, "RGB", "420")
    return Jpeg(data, height, width)
