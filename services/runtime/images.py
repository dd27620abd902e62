"""From an `Image` message to pixels, trusting nothing that it says.

What a header claims is checked against the limits before memory is taken for it.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from perception.codecs import png_length
from perception.v1 import image_pb2
from PIL import ExifTags, Image, UnidentifiedImageError

from services.runtime.errors import InvalidInput, LimitExceeded

Picture = NDArray[np.uint8]
"""RGB uint8 [H, W, 3], as displayed."""

_CHANNELS = {image_pb2.PIXEL_FORMAT_RGB8: 3, image_pb2.PIXEL_FORMAT_BGR8: 3, image_pb2.PIXEL_FORMAT_GRAY8: 1}
_FORMATS = ("JPEG", "PNG", "WEBP")
_ACCEPTED = "expected a JPEG, PNG or WebP file"

# How a stored picture becomes the displayed one, by EXIF orientation: transpose first, then flip (OpenCV's codes).
_UPRIGHT = 1
_ORIENTATIONS: dict[int, tuple[bool, int | None]] = {
    _UPRIGHT: (False, None),
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}

_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)
"""What starts a segment of a JPEG; the rest stands inside of scans."""
_MOST_SCANS = 100
"""Encoders write ten for a progressive picture."""

# The limits below replace Pillow's own, which only warns.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class ImageLimits:
    """How large a picture may be: bytes of a file or of raw pixels, and pixels whether encoded or raw."""

    max_bytes: int
    max_pixels: int


def decode(image: image_pb2.Image, limits: ImageLimits) -> Picture:
    """The picture of a message, RGB uint8 [H, W, 3], EXIF orientation applied.

    Raises `InvalidInput` naming the field that is wrong, and `LimitExceeded` for a picture that is too large.
    """
    return check(image, limits).decode()


def check(image: image_pb2.Image, limits: ImageLimits) -> Checked:
    """What the picture's header says, and how to decode it. Raises as `decode`, as far as the header shows."""
    match image.WhichOneof("source"):
        case "encoded":
            header = _read_header(image.encoded, limits)
            transposed, _ = _ORIENTATIONS[header.orientation]
            size = (header.width, header.height) if transposed else (header.height, header.width)
            return Checked(size, lambda out: _decode_encoded(image.encoded, header, out))
        case "raw":
            channels, stride = _check_raw(image.raw, limits)
            return Checked((image.raw.height, image.raw.width), lambda _: _decode_raw(image.raw, channels, stride))
        case "shared":
            raise InvalidInput("image.shared", "is for a gateway to tell its task services")
        case _:
            raise InvalidInput("image", "is empty: expected `encoded` or `raw`")


@dataclass(frozen=True)
class Checked:
    """A picture that is within the limits by its header. size: (height, width) in pixels, as displayed."""

    size: tuple[int, int]
    _decode: Callable[[Picture | None], Picture]

    def decode(self, out: Picture | None = None) -> Picture:
        """The pixels, RGB uint8 [H, W, 3], EXIF orientation applied.

        out: where to put them, uint8 of `size`; otherwise they get memory of their own. Raises `InvalidInput`.
        """
        picture = self._decode(out)
        if out is None or picture is out:
            return picture
        np.copyto(out, picture)
        return out


@dataclass(frozen=True)
class _Header:
    format: str
    height: int
    width: int
    orientation: int


def _decode_encoded(data: bytes, header: _Header, out: Picture | None) -> Picture:
    if header.format == "PNG":
        data = data[: png_length(data)]
    stored = out if header.orientation == _UPRIGHT else None
    picture = _decode_jpeg(data, stored) if header.format == "JPEG" else _decode_with_opencv(data, header.format)
    if picture.shape != (header.height, header.width, 3):
        raise InvalidInput("image.encoded", f"{header.format} whose pixels do not match its header")
    transpose, flip = _ORIENTATIONS[header.orientation]
    if transpose:
        picture = np.asarray(cv2.transpose(picture), np.uint8)
    return picture if flip is None else np.asarray(cv2.flip(picture, flip), np.uint8)


def _read_header(data: bytes, limits: ImageLimits) -> _Header:
    if not data:
        raise InvalidInput("image.encoded", f"is empty: {_ACCEPTED}")
    if len(data) > limits.max_bytes:
        raise LimitExceeded("image.encoded", f"a file of {len(data)} bytes", limits.max_bytes, "max_image_bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise InvalidInput("image.encoded", f"unknown or broken format: {_ACCEPTED}") from None
    except Exception as error:  # a parser's answer to hostile bytes; Pillow documents no closed set
        raise InvalidInput("image.encoded", f"broken header ({error}): {_ACCEPTED}") from None
    with image:
        width, height = image.size
        if height * width > limits.max_pixels:
            raise LimitExceeded(
                "image.encoded", f"a picture of {height} x {width} pixels", limits.max_pixels, "max_image_pixels"
            )
        if height < 1 or width < 1:
            raise InvalidInput("image.encoded", f"a picture of {height} x {width} pixels")
        if data.startswith(_JPEG) and _has_too_many_scans(data):
            raise InvalidInput("image.encoded", f"a JPEG of more than {_MOST_SCANS} scans")
        if image.format == "PNG":
            try:
                png_length(data)
            except ValueError as error:
                raise InvalidInput("image.encoded", str(error)) from None
        return _Header(str(image.format), height, width, _orientation(image))


def _check_pixels(field: str, height: int, width: int, limits: ImageLimits) -> None:
    if height * width > limits.max_pixels:
        raise LimitExceeded(field, f"a picture of {height} x {width} pixels", limits.max_pixels, "max_image_pixels")


def _orientation(image: Image.Image) -> int:
    # Not `image.getexif()`: it decodes the pixels of a PNG, and it takes XMP for EXIF.
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation, _UPRIGHT)
    except Exception:  # broken EXIF says nothing about the picture's pixels, so it counts as none
        return _UPRIGHT
    return orientation if orientation in _ORIENTATIONS else _UPRIGHT


def _has_too_many_scans(data: bytes) -> bool:
    # Each scan of a JPEG goes over the whole picture, and may be some bytes long: 100 kB could take ten seconds.
    if data.count(_SCAN) <= _MOST_SCANS:
        return False
    # These bytes may also stand in a thumbnail or behind the picture; only its own segments tell.
    scans, at = 0, 2
    while (marker := _MARKER.search(data, at)) and marker.group() != _END:
        scans += marker.group() == _SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans > _MOST_SCANS


def _decode_jpeg(data: bytes, out: Picture | None) -> Picture:
    try:
        height, width, color_space, _ = simplejpeg.decode_jpeg_header(data)
        if color_space in ("CMYK", "YCCK"):  # which simplejpeg does not convert to RGB
            return _decode_with_opencv(data, "JPEG")
        if out is not None and out.shape == (height, width, 3):
            simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
            return out
        return np.asarray(simplejpeg.decode_jpeg(data, colorspace="RGB"), np.uint8)
    except ValueError as error:
        raise InvalidInput("image.encoded", f"broken JPEG: {error}") from None


def _decode_with_opencv(data: bytes, name: str) -> Picture:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        picture = None
    if picture is None:
        raise InvalidInput("image.encoded", f"broken {name}")
    return np.asarray(picture, np.uint8)


def _check_raw(raw: image_pb2.RawImage, limits: ImageLimits) -> tuple[int, int]:
    """Channels and stride of raw pixels that are what they claim to be."""
    if raw.format not in _CHANNELS:
        raise InvalidInput("image.raw.format", f"is {raw.format}: expected RGB8, BGR8 or GRAY8")
    for side in ("height", "width"):
        if getattr(raw, side) < 1:
            raise InvalidInput(f"image.raw.{side}", "is 0: expected at least 1 pixel")
    if raw.height * raw.width > limits.max_pixels:
        raise LimitExceeded(
            "image.raw", f"a picture of {raw.height} x {raw.width} pixels", limits.max_pixels, "max_image_pixels"
        )
    if len(raw.data) > limits.max_bytes:
        raise LimitExceeded("image.raw.data", f"pixels of {len(raw.data)} bytes", limits.max_bytes, "max_image_bytes")
    channels = _CHANNELS[raw.format]
    row = raw.width * channels
    stride = raw.stride or row
    if stride < row:
        raise InvalidInput("image.raw.stride", f"is {stride}: a row of {raw.width} pixels takes {row} bytes")
    least, most = (raw.height - 1) * stride + row, raw.height * stride
    if not least <= len(raw.data) <= most:
        expected = f"{least} bytes" if least == most else f"{least} to {most} bytes"
        raise InvalidInput(
            "image.raw.data",
            f"holds {len(raw.data)} bytes: {raw.height} rows of {stride} bytes take {expected}",
        )
    return channels, stride


def _decode_raw(raw: image_pb2.RawImage, channels: int, stride: int) -> Picture:
    pixels = np.ndarray((raw.height, raw.width, channels), np.uint8, buffer=raw.data, strides=(stride, channels, 1))
    if raw.format == image_pb2.PIXEL_FORMAT_GRAY8:
        return np.repeat(pixels, 3, axis=2)
    if raw.format == image_pb2.PIXEL_FORMAT_BGR8:
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels)
