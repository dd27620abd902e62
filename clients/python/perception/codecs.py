"""Masks and maps as bytes: COCO compressed run lengths and PNG.

Decoders trust nothing: a size that a file or message claims is checked against what the caller expects before memory
is taken for it, and anything malformed raises `ValueError` with the reason.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from isal import igzip_lib, isal_zlib
from numpy.typing import ArrayLike, NDArray

from perception import masks

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = struct.pack(">I4sI", 0, b"IEND", 0xAE426082)
_UP = 2
"""The filter of a row that is written as its difference to the one above."""
_PNG_LEVEL = 1
"""Of Intel's ISA-L, whose deflate is many times faster than zlib's and makes files of about the same size."""
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
    [counts] = _compress(*_counts(*_runs(mask, x, y, height), height * width, 1))
    return counts


def encode_box_masks(box_masks: Sequence[NDArray[np.uint8]], boxes: ArrayLike, height: int, width: int) -> list[bytes]:
    """COCO's compressed counts of each box-relative mask over the picture, see `masks.column_runs`."""
    if not box_masks:
        return []
    runs = masks.column_runs(box_masks, boxes, height, width)
    return _compress(*_counts(*runs, height * width, len(box_masks)))


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


def _runs(mask: NDArray[np.bool_], x: int, y: int, height: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the runs of foreground start and end, in the picture's column-major order."""
    # A row of background between one column and the next; OpenCV transposes many times faster than NumPy.
    framed = np.zeros((mask.shape[1], mask.shape[0] + 1), np.bool_)
    if mask.size:
        framed[:, :-1] = cv2.transpose(np.asarray(mask, np.bool_).view(np.uint8))
    flat = framed.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if flat[:1].any():
        changes = np.append(0, changes)
    column, row = np.divmod(changes, framed.shape[1])
    places = (column + x) * height + row + y
    return places[::2], places[1::2]


def _counts(
    starts: NDArray[np.int64], ends: NDArray[np.int64], pixels: int, pictures: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Lengths of background and foreground in turn, of one picture after another, and how many each picture has.

    starts, ends: of the runs of foreground, in pictures of so many pixels that follow one another.
    """
    owner = starts // max(pixels, 1)
    if starts.size:
        # A run that leaves a column at its bottom edge and enters the next at its top is one run.
        apart = (starts[1:] != ends[:-1]) | (owner[1:] != owner[:-1])
        is_first, is_last = np.concatenate(([True], apart)), np.concatenate((apart, [True]))
        starts, ends, owner = starts[is_first], ends[is_last], owner[is_first]
    edges = 2 * np.bincount(owner, minlength=pictures)
    end = np.cumsum(edges + 2) - 1
    begin = end - edges - 1
    marks = np.empty(end[-1] + 1, np.int64)
    is_edge = np.ones(marks.shape, np.bool_)
    is_edge[begin] = is_edge[end] = False
    marks[begin] = np.arange(pictures) * pixels
    marks[end] = marks[begin] + pixels
    marks[is_edge] = np.stack((starts, ends), axis=1).ravel()
    counts = np.diff(marks)
    # COCO's own encoder leaves out a last run of no length, but keeps a first one.
    ends_in_foreground = (counts[end - 1] == 0) & (edges > 0)
    counts_here = np.ones(counts.shape, np.bool_)
    counts_here[end[:-1]] = False
    counts_here[(end - 1)[ends_in_foreground]] = False
    return counts[counts_here], edges + 1 - ends_in_foreground


def _compress(runs: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[bytes]:
    """The text of each picture's runs. lengths: how many runs each picture has, at least one."""
    ends = np.cumsum(lengths)
    place = np.arange(runs.size) - np.repeat(ends - lengths, lengths)
    values = runs.copy()
    values[3:] -= np.where(place[3:] > 2, runs[1:-2], 0)
    # A number takes its bits and one for the sign, in groups of five.
    bits = np.frexp(np.where(values < 0, ~values, values).astype(np.float64))[1]
    groups = bits // _GROUP_BITS + 1
    group = np.arange(groups.max())
    symbols = ((values[:, None] >> _GROUP_BITS * group) & 0x1F).astype(np.uint8)
    symbols[group < groups[:, None] - 1] |= _MORE
    symbols += _PRINTABLE
    text: bytes = symbols[group < groups[:, None]].tobytes()
    return [text[start:end] for start, end in pairwise((0, *np.cumsum(groups)[ends - 1].tolist()))]


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


def encode_png(image: NDArray[np.uint8] | NDArray[np.uint16], size: tuple[int, int] | None = None) -> bytes:
    """A grey PNG of uint8 or uint16 [H, W].

    size: (height, width) of the picture that it is stretched to, every pixel taking the nearest one; rows that repeat
    cost next to nothing. Raises `ValueError` for any other array and for one without pixels.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 2 or image.size == 0:
        raise ValueError(
            f"image: expected uint8 or uint16 [H, W], at least 1 x 1, got {image.dtype} {list(image.shape)}"
        )
    height, width = size or image.shape
    header = struct.pack(">IIBBBBB", width, height, 8 * image.itemsize, 0, 0, 0, 0)
    pixels = isal_zlib.compress(_filter(image, height, width), _PNG_LEVEL)
    return b"".join((_PNG_SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", pixels), _PNG_END))


def nearest(cells: int, stretched: int) -> NDArray[np.int32]:
    """For every one of `stretched` pixels, the one that it takes of `cells` pixels along the same axis."""
    indices = np.arange(cells, dtype=np.int32)[None]
    taken = cv2.resize(indices, (stretched, 1), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(taken[0], np.int32)


def _filter(image: NDArray[np.uint8] | NDArray[np.uint16], height: int, width: int) -> NDArray[np.uint8]:
    """The bytes of a stretched picture, row by row: the filter, then the difference to the row above."""
    sources = nearest(len(image), height)
    first = np.flatnonzero(np.diff(sources, prepend=-1))  # the other rows repeat the one above
    if len(first) < len(image):
        image = image[sources[first]]
    if width != image.shape[1]:
        image = cv2.resize(image, (width, len(image)), interpolation=cv2.INTER_NEAREST_EXACT)  # type: ignore[assignment]
    samples = np.ascontiguousarray(image, image.dtype.newbyteorder(">")).view(np.uint8)
    distinct = np.empty((len(samples), 1 + samples.shape[1]), np.uint8)
    distinct[:, 0] = _UP
    distinct[0, 1:] = samples[0]
    np.subtract(samples[1:], samples[:-1], out=distinct[1:, 1:])
    if len(distinct) == height:
        return distinct
    rows = np.zeros((height, distinct.shape[1]), np.uint8)
    rows[:, 0] = _UP
    rows[first] = distinct
    return rows


def _chunk(kind: bytes, data: bytes) -> tuple[bytes, ...]:
    check = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)), kind, data, struct.pack(">I", check)


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
    own = _decode_own(data, height, width * bits // 8)
    if own is not None:
        return own if bits == 8 else own.view(">u2").astype(np.uint16)
    file = np.frombuffer(data, np.uint8, png_length(data))
    try:
        image = cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None or image.shape != (height, width):
        raise ValueError("broken PNG")
    return np.asarray(image, np.uint8) if bits == 8 else np.asarray(image, np.uint16)


def _decode_own(data: bytes, height: int, row_bytes: int) -> NDArray[np.uint8] | None:
    """The bytes of a grey picture, uint8 [height, row_bytes], of a PNG as `encode_png` writes it; None of any other."""
    header, body = data[16:29], data[41:-16]
    if data != b"".join((_PNG_SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", body), _PNG_END)) or any(
        header[10:]
    ):
        return None
    inflating, size = isal_zlib.decompressobj(), height * (1 + row_bytes)
    try:
        rows = np.frombuffer(inflating.decompress(body, size + 1), np.uint8)
    except igzip_lib.IsalError:  # type: ignore[misc]  # its stub calls it a value
        return None
    if rows.size != size or not inflating.eof:
        return None
    rows = rows.reshape(height, 1 + row_bytes)
    if (rows[:, 0] != _UP).any():
        return None
    pixels = np.array(rows[:, 1:])
    for above, row in pairwise(pixels):
        np.add(above, row, out=row)
    return pixels


def encode_panoptic_png(ids: NDArray[np.int32], size: tuple[int, int] | None = None) -> bytes:
    """A 16-bit grey PNG of segment ids int32 [H, W], stretched as by `encode_png`.

    Raises `ValueError` for ids outside 0..65535.
    """
    # One pass tells whether any of them has a bit that 16 have no place for, as negative ones have.
    if np.bitwise_or.reduce(ids.ravel()) >> 16:
        raise ValueError(f"segment ids must be 0..65535, got {ids.min()}..{ids.max()}")
    return encode_png(ids.astype(np.uint16), size)


def decode_panoptic_png(data: bytes, height: int, width: int) -> NDArray[np.int32]:
    """Segment ids int32 [height, width] of a grey PNG. Raises `ValueError` as `decode_png`."""
    return decode_png(data, height, width).astype(np.int32)
