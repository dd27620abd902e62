"""Masks and maps as bytes: COCO compressed run lengths and PNG.

Decoders trust nothing: a size that a file or message claims is checked against what the caller expects before memory
is taken for it, and anything malformed raises `ValueError` with the reason.
"""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# COCO writes a run as groups of five bits, lowest first: bit 5 says that another group follows, 48 makes it printable.
_GROUP_BITS = 5
_MORE = 0x20
_SIGN = 0x10
_PRINTABLE = 48
_MAX_GROUPS = 7
MAX_PIXELS = 2**28
"""Pixels of the largest map that is decoded, 16384 x 16384; a message may claim any size."""
_MAX_PNG_CHUNKS = 65536
"""Encoders write one for every 8 KiB or more."""
# Row filter UP and the fastest compression: maps are constant over large areas, so a harder search only costs time.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)


def encode_rle(
    mask: NDArray[np.bool_], x: int = 0, y: int = 0, height: int | None = None, width: int | None = None
) -> bytes:
    """COCO's compressed counts of a mask.

    mask: bool [h, w], the part of a picture of `height` x `width` (default: of the mask itself) whose top left pixel
    is at column x and row y; the rest of the picture is background. Raises `ValueError` when it does not lie inside.
    """
    if mask.ndim != 2:
        raise ValueError(f"mask: expected bool [h, w], got {mask.dtype} {list(mask.shape)}")
    height = mask.shape[0] if height is None else height
    width = mask.shape[1] if width is None else width
    if x < 0 or y < 0 or y + mask.shape[0] > height or x + mask.shape[1] > width:
        raise ValueError(f"mask {list(mask.shape)} at ({x}, {y}) does not lie inside a picture {[height, width]}")
    return _compress(_runs(np.asarray(mask, np.bool_), x, y, height, width))


def decode_rle(counts: bytes, height: int, width: int) -> NDArray[np.bool_]:
    """The mask, bool [height, width], of COCO's compressed counts.

    Raises `ValueError` when the counts are malformed or do not add up to height x width, and for more pixels than
    `MAX_PIXELS`.
    """
    check_size(height, width)
    runs = _decompress(counts)
    # Every run is held against the picture before they are added up, because a sum of hostile ones could wrap around.
    if ((runs < 0) | (runs > height * width)).any() or int(runs.sum()) != height * width:
        raise ValueError(f"run lengths do not add up to {height} x {width} = {height * width} pixels")
    values = (np.arange(runs.size) % 2).astype(np.bool_)
    return np.repeat(values, runs).reshape(width, height).T


def rle_area(counts: bytes) -> int:
    """Pixels of the mask that the counts stand for. Raises `ValueError` when they are malformed."""
    return int(_decompress(counts)[1::2].sum())


def _runs(mask: NDArray[np.bool_], x: int, y: int, height: int, width: int) -> NDArray[np.int64]:
    # Each column of the mask, framed by background, changes value where a run of foreground starts or ends. In the
    # picture's column-major order that place is column * height + row.
    framed = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    framed[:, 1:-1] = mask.T
    change = np.diff(framed, axis=1)
    start_column, start_row = np.nonzero(change == 1)
    end_column, end_row = np.nonzero(change == -1)
    starts = (start_column + x) * height + start_row + y
    ends = (end_column + x) * height + end_row + y
    if starts.size:
        # A run that leaves a column at its bottom edge and enters the next at its top is one run.
        apart = starts[1:] != ends[:-1]
        starts = starts[np.concatenate(([True], apart))]
        ends = ends[np.concatenate((apart, [True]))]
    edges = np.stack((starts, ends), axis=1).ravel()
    runs = np.diff(np.concatenate(([0], edges, [height * width])))
    # COCO's own encoder leaves out a last run of no length, but keeps a first one.
    return runs[:-1] if runs.size > 1 and runs[-1] == 0 else runs


def _compress(runs: NDArray[np.int64]) -> bytes:
    values = runs.astype(np.int64)
    values[3:] -= runs[1:-2]
    groups = np.zeros((values.size, _MAX_GROUPS + 1), np.uint8)
    used = np.zeros((values.size, _MAX_GROUPS + 1), np.bool_)
    active = np.ones(values.size, np.bool_)
    for position in range(_MAX_GROUPS + 1):
        bits = (values & 0x1F).astype(np.uint8)
        values >>= _GROUP_BITS
        more = np.where(bits & _SIGN, values != -1, values != 0) & active
        groups[:, position] = (bits | np.where(more, _MORE, 0).astype(np.uint8)) + _PRINTABLE
        used[:, position] = active
        active = more
        if not active.any():
            break
    return groups[used].tobytes()


def _decompress(counts: bytes) -> NDArray[np.int64]:
    symbols = np.frombuffer(counts, np.uint8).astype(np.int64) - _PRINTABLE
    if symbols.size == 0 or symbols.min() < 0 or symbols.max() > 63:
        raise ValueError("compressed counts hold characters outside COCO's alphabet, or none at all")
    last = (symbols & _MORE) == 0
    if not last[-1]:
        raise ValueError("compressed counts end in the middle of a run")
    run_of_symbol = np.concatenate(([0], np.cumsum(last)[:-1]))
    first_of_run = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    position = np.arange(symbols.size) - first_of_run[run_of_symbol]
    if position.max() >= _MAX_GROUPS:
        raise ValueError(f"compressed counts hold a run of more than {_MAX_GROUPS} groups")
    runs = np.zeros(first_of_run.size, np.int64)
    np.add.at(runs, run_of_symbol, (symbols & 0x1F) << (_GROUP_BITS * position))
    negative = (symbols[last] & _SIGN) != 0
    runs[negative] -= np.int64(1) << (_GROUP_BITS * (position[last][negative] + 1))
    # From the fourth on, a run is written as its difference to the run before the last.
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def check_size(height: int, width: int) -> None:
    """Raises `ValueError` for a map of more pixels than `MAX_PIXELS`, before memory is taken for it."""
    if height * width > MAX_PIXELS:
        raise ValueError(f"a map of {height} x {width} pixels, expected at most {MAX_PIXELS}")


def png_length(data: bytes) -> int:
    """Bytes of the PNG with which `data` begins; its chunks fit into them, and pixels are among them.

    Raises `ValueError` where that is not so, or the chunks are very many. OpenCV takes the memory that a chunk claims
    before it reads it, and looks for pixels past the end of the picture: a file of 100 bytes could take 2 GiB.
    """
    at = len(_PNG_SIGNATURE)
    has_pixels = False
    for _ in range(_MAX_PNG_CHUNKS):
        length = int.from_bytes(data[at : at + 4])
        name = data[at + 4 : at + 8]
        at += 12 + length
        if at > len(data):
            raise ValueError(f"broken PNG: {len(data)} bytes, which end inside a chunk that claims {length}")
        if name == b"IEND":
            if not has_pixels:
                raise ValueError("broken PNG: it ends before its pixels")
            return at
        has_pixels |= name == b"IDAT"
    raise ValueError(f"PNG of more than {_MAX_PNG_CHUNKS} chunks")


def encode_png(image: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A grey PNG of uint8 or uint16 [H, W]. Raises `ValueError` for any other array and for one without pixels."""
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 2 or image.size == 0:
        raise ValueError(
            f"image: expected uint8 or uint16 [H, W], at least 1 x 1, got {image.dtype} {list(image.shape)}"
        )
    _, data = cv2.imencode(".png", image, _PNG_OPTIONS)
    return data.tobytes()


def decode_png(data: bytes, height: int, width: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A grey PNG as uint8 or uint16 [height, width].

    Raises `ValueError` when it is no PNG, not grey, broken, or not of that size; the size is read from the header
    before anything is allocated. So does a size of more pixels than `MAX_PIXELS`.
    """
    check_size(height, width)
    if len(data) < 26 or data[:8] != _PNG_SIGNATURE or data[12:16] != b"IHDR":
        raise ValueError("not a PNG")
    png_width, png_height, bits, color_type = struct.unpack(">IIBB", data[16:26])
    if (png_height, png_width) != (height, width):
        raise ValueError(f"PNG of {png_height} x {png_width} pixels, expected {height} x {width}")
    if color_type != 0 or bits not in (8, 16):
        raise ValueError(f"PNG of colour type {color_type} with {bits} bits, expected grey with 8 or 16")
    pixels = np.frombuffer(data, np.uint8, png_length(data))
    try:
        image = cv2.imdecode(pixels, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.shape != (height, width):
        raise ValueError("broken PNG")
    return np.asarray(image, np.uint8) if bits == 8 else np.asarray(image, np.uint16)


def encode_panoptic_png(ids: NDArray[np.int32]) -> bytes:
    """A 16-bit grey PNG of segment ids int32 [H, W]. Raises `ValueError` for ids outside 0..65535."""
    if ids.size and (ids.min() < 0 or ids.max() > 65535):
        raise ValueError(f"segment ids must be 0..65535, got {ids.min()}..{ids.max()}")
    return encode_png(ids.astype(np.uint16))


def decode_panoptic_png(data: bytes, height: int, width: int) -> NDArray[np.int32]:
    """Segment ids int32 [height, width] of a grey PNG. Raises `ValueError` as `decode_png`."""
    return decode_png(data, height, width).astype(np.int32)
