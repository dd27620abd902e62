"""The frames of a source, whatever it is."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from services.camera.capture.jpeg import Jpeg, Picture, fitted
from services.camera.capture.options import CaptureOptions, SourceError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_LARGEST_FILE_BYTES = 256 * 2**20
_LARGEST_PICTURE_PIXELS = 200_000_000
_FORMATS = {"v4l2": "v4l2"}
_WITHOUT_TIMES = {"mpjpeg", "mjpeg"}
"""Pictures one after the other, as HTTP cameras send them: FFmpeg counts 25 as a second, however many there were."""
_JPEG_START = b"\xff\xd8"
_PRODUCER_REFERENCE_TIME = struct.Struct("=q")
"""How FFmpeg's AVProducerReferenceTime starts: microseconds since 1970."""
_KNOWN_TIMES = 64
_QUICK_ANALYSIS = {"analyzeduration": "500000", "fpsprobesize": "0"}
"""FFmpeg looks at half a second of a live source at most and counts no frames, so that it is open a third of a second
after it is called."""
_BROKEN_IN_A_ROW = 250
"""Pictures that cannot be decoded, one after the other, before a source counts as broken: ten seconds at 25 fps."""


@dataclass(frozen=True)
class SourceInfo:
    """What a source says of itself when it is open. frames_per_second: 0 where it does not say."""

    codec: str
    height: int
    width: int
    frames_per_second: float


@dataclass(frozen=True)
class RawFrame:
    """One frame as it comes from the source.

    position: seconds on the source's own clock, None where it has none. sender_time: seconds since 1970 by the sender's
    clock. is_cut: the first frame after a file has started again.
    """

    picture: Picture
    position: float | None
    sender_time: float | None = None
    is_cut: bool = False


def read_frames(options: CaptureOptions, opened: Callable[[SourceInfo], None]) -> Iterator[RawFrame]:
    """Opens a source, tells `opened` what it is, and gives its frames. Raises `SourceError` where it breaks off."""
    read = _read_images if options.kind == "images" else _read_container
    for times_played in count():
        number = -1
        for number, frame in enumerate(read(options, opened)):
            yield replace(frame, is_cut=times_played > 0 and number == 0)
        if options.is_live:
            raise SourceError("the source ended the stream")
        if number < 0:
            raise SourceError("no picture in it")
        if not options.loop:
            return


def _read_images(options: CaptureOptions, opened: Callable[[SourceInfo], None]) -> Iterator[RawFrame]:
    folder = Path(options.location)
    rate = options.frames_per_second
    if rate is None:
        raise ValueError("a folder of images needs frames per second")
    if not folder.is_dir():
        raise SourceError("no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    for number, path in enumerate(paths):
        picture = _read_image(path, options)
        if number == 0:
            height, width = (picture.height, picture.width) if isinstance(picture, Jpeg) else picture.shape[:2]
            opened(SourceInfo(path.suffix.lower().lstrip("."), height, width, rate))
        yield RawFrame(picture, number / rate)


def _read_image(path: Path, options: CaptureOptions) -> Jpeg | NDArray[np.uint8]:
    # The services' own reading of pictures, which knows EXIF and 16 bits; only folders need it, and it is large.
    from perception.v1 import image_pb2

    from services.runtime import images
    from services.runtime.errors import ServiceError

    limits = images.ImageLimits(_LARGEST_FILE_BYTES, _LARGEST_PICTURE_PIXELS)
    try:
        data = path.read_bytes()
        image = image_pb2.Image(encoded=data)
        checked = images.check(image, limits)
        height, width = checked.size
        if path.suffix.lower() in (".jpg", ".jpeg") and fitted(height, width, options) == (height, width):
            return Jpeg(data, height, width)
        return checked.decode()
    except (OSError, ServiceError) as error:
        raise SourceError(f"{path.name}: {error}") from None


def _read_container(options: CaptureOptions, opened: Callable[[SourceInfo], None]) -> Iterator[RawFrame]:
    try:
        with av.open(
            options.location, format=_FORMATS.get(options.kind), options=_ffmpeg_options(options)
        ) as container:
            if not container.streams.video:
                raise SourceError("no video in it")
            stream = container.streams.video[0]
            if options.is_live:
                stream.thread_type = "SLICE"  # threads over frames would hold each back by some frames
            opened(SourceInfo(stream.codec_context.name, stream.height, stream.width, float(stream.average_rate or 0)))
            has_times = container.format.name not in _WITHOUT_TIMES
            for frame in _read_packets(container.demux(stream)):
                yield frame if has_times else replace(frame, position=None)
    except av.FFmpegError as error:
        # Not `str(error)`: it holds the location, and that may hold a password.
        raise SourceError(error.strerror) from None


def _read_packets(packets: Iterator[av.Packet[av.VideoStream]]) -> Iterator[RawFrame]:
    times = _SenderTimes()
    broken = 0
    for packet in packets:
        times.see(packet)
        data = bytes(packet) if packet.stream.codec_context.name == "mjpeg" and packet.size else b""
        try:
            if data.startswith(_JPEG_START):
                yield RawFrame(Jpeg.read(data), _position(packet), times.of(packet.pts))
            else:
                for frame in packet.decode():
                    yield RawFrame(frame, frame.time, times.of(frame.pts))
            broken = 0
        except (av.error.InvalidDataError, SourceError) as error:
            broken += 1
            if broken == _BROKEN_IN_A_ROW:
                raise SourceError(f"{broken} broken pictures in a row, the last one: {error}") from None


def _position(packet: av.Packet[av.VideoStream]) -> float | None:
    return None if packet.pts is None else float(packet.pts * packet.time_base)


class _SenderTimes:
    """When frames were taken by their sender's clock: FFmpeg puts it on packets once RTCP has told it."""

    def __init__(self) -> None:
        self._by_pts: dict[int, float] = {}

    def see(self, packet: av.Packet[av.VideoStream]) -> None:
        if packet.pts is not None and packet.has_sidedata("prft"):
            (microseconds,) = _PRODUCER_REFERENCE_TIME.unpack_from(bytes(packet.get_sidedata("prft")))
            self._by_pts[packet.pts] = microseconds / 1e6
            while len(self._by_pts) > _KNOWN_TIMES:  # of pictures that never came out of the decoder
                del self._by_pts[next(iter(self._by_pts))]

    def of(self, pts: int | None) -> float | None:
        return None if pts is None else self._by_pts.pop(pts, None)


def _ffmpeg_options(options: CaptureOptions) -> dict[str, str]:
    match options.kind:
        case "rtsp":
            return {"rtsp_transport": options.transport, **_QUICK_ANALYSIS}
        case "http":
            return _QUICK_ANALYSIS
        case _:
            return {}
