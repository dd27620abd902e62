"""The codecs against pycocotools and Pillow, and against whatever bytes a sender may make up."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from perception import codecs
from perception.masks import HALF, paste, paste_probability
from PIL import Image
from pycocotools import mask as coco

MEBIBYTE = 2**20

masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


def peak_bytes(function: Callable[[], object]) -> int:
    """Most memory that Python and NumPy held at once while the function ran, whether or not it raised."""
    tracemalloc.start()
    try:
        function()
    except ValueError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def compressed(runs: list[int]) -> bytes:
    """COCO's counts of any list of runs, written the slow way."""
    text = bytearray()
    for index, run in enumerate(runs):
        value = run - (runs[index - 2] if index > 2 else 0)
        more = True
        while more:
            group, value = value & 0x1F, value >> 5
            more = value != (-1 if group & 0x10 else 0)
            text.append(group + (0x20 if more else 0) + 48)
    return bytes(text)


@given(masks)
def test_rle_is_what_pycocotools_writes_and_reads(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    counts = codecs.encode_rle(mask)
    assert counts == coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    np.testing.assert_array_equal(codecs.decode_rle(counts, height, width), mask)
    assert codecs.rle_area(counts) == mask.sum()


@given(masks, st.data())
def test_rle_of_a_part_is_the_rle_of_the_picture_it_lies_in(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, 9), "x"), data.draw(st.integers(0, 9), "y")
    height = y + mask.shape[0] + data.draw(st.integers(0, 9), "below")
    width = x + mask.shape[1] + data.draw(st.integers(0, 9), "right")
    picture = np.zeros((height, width), np.bool_)
    picture[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    counts = codecs.encode_rle(mask, x, y, height, width)
    assert counts == coco.encode(np.asfortranarray(picture, np.uint8))["counts"]
    np.testing.assert_array_equal(codecs.decode_rle(counts, height, width), picture)


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((7, 5), np.bool_),  # nothing: one run
        np.ones((7, 5), np.bool_),  # everything: a background run of no length comes first
        np.ones((1, 1), np.bool_),
        np.eye(40, dtype=np.bool_),  # many short runs
        np.indices((40, 40)).sum(axis=0) % 2 == 0,  # a chessboard: the most runs there can be
        np.ones((1, 100_000), np.bool_),  # runs over many columns
        np.ones((100_000, 1), np.bool_),  # a run that takes four groups
    ],
)
def test_rle_of_extreme_masks(mask: NDArray[np.bool_]) -> None:
    counts = codecs.encode_rle(mask)
    assert counts == coco.encode(np.asfortranarray(mask, np.uint8))["counts"]
    np.testing.assert_array_equal(codecs.decode_rle(counts, *mask.shape), mask)


box_masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6))
corners = st.tuples(*[st.floats(-20, 60, width=32)] * 4)


@given(st.lists(st.tuples(box_masks, corners), max_size=5), st.integers(1, 40), st.integers(1, 40))
def test_masks_that_are_written_together_are_as_each_by_itself(
    objects: list[tuple[NDArray[np.uint8], tuple[float, ...]]], height: int, width: int
) -> None:
    box_masks, boxes = [mask for mask, _ in objects], [box for _, box in objects]
    together = codecs.encode_box_masks(box_masks, boxes, height, width)
    assert together == [
        codecs.encode_box_masks([mask], [box], height, width)[0] for mask, box in zip(box_masks, boxes, strict=True)
    ]
    for counts, mask, box in zip(together, box_masks, boxes, strict=True):
        drawn = np.zeros((height, width), np.bool_)
        part, x, y = paste(mask, box, height, width)
        drawn[y : y + part.shape[0], x : x + part.shape[1]] = part
        differs = codecs.decode_rle(counts, height, width) != drawn
        assert not differs[_decided(mask, box, height, width)].any()


def _decided(mask: NDArray[np.uint8], box: tuple[float, ...], height: int, width: int) -> NDArray[np.bool_]:
    """Where a pixel is not one half up to rounding."""
    probability = np.zeros((height, width))
    part, x, y = paste_probability(mask, box, height, width)
    probability[y : y + part.shape[0], x : x + part.shape[1]] = part
    return np.abs(probability - (HALF + 0.5)) > 1


def test_rle_of_a_part_without_pixels_is_an_empty_picture() -> None:
    counts = codecs.encode_rle(np.zeros((0, 0), np.bool_), x=4, y=3, height=3, width=4)
    assert not codecs.decode_rle(counts, 3, 4).any()


@pytest.mark.parametrize(
    ("shape", "x", "y", "words"),
    [
        ((4, 4), -1, 0, "does not lie inside"),  # left of the picture
        ((4, 4), 0, -1, "does not lie inside"),  # above it
        ((4, 4), 7, 0, "does not lie inside"),  # over its right edge
        ((4, 4), 0, 7, "does not lie inside"),  # over its lower edge
        ((4,), 0, 0, r"expected bool \[h, w\], got bool \[4\]"),  # no mask
        ((4, 4, 1), 0, 0, r"expected bool \[h, w\], got bool \[4, 4, 1\]"),
    ],
)
def test_a_mask_that_is_not_part_of_the_picture_is_refused(shape: tuple[int, ...], x: int, y: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        codecs.encode_rle(np.zeros(shape, np.bool_), x, y, 10, 10)


@given(st.binary(max_size=200), st.integers(0, 60), st.integers(0, 60))
def test_any_bytes_are_a_mask_of_that_size_or_a_value_error(counts: bytes, height: int, width: int) -> None:
    try:
        mask = codecs.decode_rle(counts, height, width)
    except ValueError:
        return
    assert mask.shape == (height, width)
    assert mask.dtype == np.bool_


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=60))
def test_any_counts_of_cocos_alphabet_are_a_mask_or_a_value_error(counts: str) -> None:
    try:
        mask = codecs.decode_rle(counts.encode(), 8, 8)
    except ValueError:
        return
    expected = coco.decode({"size": [8, 8], "counts": counts.encode()})
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (b"", "or none at all"),
        (b"\x00", "outside COCO's alphabet"),
        (b"\xff", "outside COCO's alphabet"),
        (b"P", "in the middle of a run"),  # its last group says that another follows
        (b"PPPPPPPPPP0", "more than 7 groups"),  # a run of fifty bits
        (compressed([4]), "do not add up to 2 x 3 = 6"),  # too few pixels
        (compressed([7]), "do not add up"),  # too many
        (compressed([3, -2, 5]), "do not add up"),  # a sum that is right, of a run that is not
        (compressed([0] * 500), "do not add up"),
    ],
)
def test_malformed_counts_say_what_is_wrong(counts: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        codecs.decode_rle(counts, 2, 3)


def test_runs_whose_sum_wraps_around_do_not_pass_for_a_picture() -> None:
    # Background runs that grow by the largest step add up to almost 2^64; foreground runs, which start with one step
    # and grow by one more near the end, bring the sum to exactly 2^64 + height x width.
    height, width, step, steps = 400, 400, 2**34 - 1, 46_340
    rest = 2**64 + height * width - step * steps * (steps + 1) // 2
    first, late = divmod(rest, steps)
    written = {value: compressed([value]) for value in (0, 1, first, step)}
    pairs = [(step, 1 if index == steps - late - 1 else 0) for index in range(steps)]
    counts = written[0] + written[first] + b"".join(written[a] + written[b] for a, b in pairs[:-1]) + written[step]
    runs = codecs._decompress(counts)
    assert (runs >= 0).all()
    assert int(runs.sum()) == height * width, "the sum must wrap, or this test proves nothing"
    with pytest.raises(ValueError, match="do not add up"):
        codecs.decode_rle(counts, height, width)


@pytest.mark.parametrize(
    "decode",
    [
        lambda: codecs.decode_rle(compressed([2**33]), 2**32 - 1, 2**32 - 1),  # a picture of 2^64 pixels
        lambda: codecs.decode_rle(compressed([2**33]), 2**17, 2**16),  # the counts agree with the size
        lambda: codecs.decode_rle(compressed([2**33]), 2, 2),  # they do not
        lambda: codecs.decode_png(png(2**16, 2**16), 2**16, 2**16),  # so does the header of a PNG of 4 GiB
        lambda: codecs.decode_png(png(2**16, 2**16), 2, 2),
        lambda: codecs.decode_png(png(30_000, 30_000, bits=1), 2, 2),
    ],
)
def test_a_claimed_size_takes_no_memory(decode: Callable[[], object]) -> None:
    with pytest.raises(ValueError):
        decode()
    assert peak_bytes(decode) < MEBIBYTE


@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 65535)))
def test_a_panoptic_map_comes_back_whole(ids: NDArray[np.int32]) -> None:
    decoded = codecs.decode_panoptic_png(codecs.encode_panoptic_png(ids), *ids.shape)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, ids)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_a_map_of_bytes_comes_back_whole(image: NDArray[np.uint8]) -> None:
    decoded = codecs.decode_png(codecs.encode_png(image), *image.shape)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, image)


maps = hnp.arrays(
    st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)
)


@given(maps)
def test_any_reader_of_png_reads_the_same(image: NDArray[np.uint8]) -> None:
    data = codecs.encode_png(image)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), image)
    with Image.open(io.BytesIO(data)) as read:
        np.testing.assert_array_equal(np.asarray(read), image)


@given(maps, st.integers(1, 50), st.integers(1, 50))
def test_a_stretched_map_takes_the_nearest_pixels(image: NDArray[np.uint8], height: int, width: int) -> None:
    stretched = cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    decoded = codecs.decode_png(codecs.encode_png(image, (height, width)), height, width)
    np.testing.assert_array_equal(decoded, stretched)
    rows, columns = codecs.nearest(image.shape[0], height), codecs.nearest(image.shape[1], width)
    np.testing.assert_array_equal(image[rows[:, None], columns], stretched)


@pytest.mark.parametrize("value", [-1, 65536])
def test_ids_that_sixteen_bits_do_not_hold_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match=f"0..65535, got .*{value}"):
        codecs.encode_panoptic_png(np.full((2, 2), value, np.int32))


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((4, 4), np.float32), r"float32 \[4, 4\]"),  # OpenCV would round it without a word
        (np.zeros((4, 4, 3), np.uint8), r"uint8 \[4, 4, 3\]"),  # a colour picture is no map
        (np.zeros((0, 4), np.uint8), r"uint8 \[0, 4\]"),  # a PNG has at least one pixel
    ],
)
def test_what_is_no_map_is_not_encoded(array: NDArray[np.generic], found: str) -> None:
    with pytest.raises(ValueError, match=f"expected uint8 or uint16 .* got {found}"):
        codecs.encode_png(array)  # type: ignore[arg-type]


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(height: int, width: int, bits: int = 8, color_type: int = 0, pixels: bytes = b"") -> bytes:
    """A PNG with a header that claims anything, and these bytes as its compressed rows."""
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


ROWS = b"\0ab\0cd"  # two rows of two pixels, each after its filter


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "not a PNG"),  # the signature and nothing else
        (b"\xff\xd8\xff\xe0" + bytes(40), "not a PNG"),  # a JPEG
        (png(2, 3, pixels=ROWS), "PNG of 2 x 3 pixels, expected 2 x 2"),
        (png(3, 2, pixels=ROWS), "PNG of 3 x 2 pixels, expected 2 x 2"),
        (png(0, 0), "PNG of 0 x 0 pixels"),
        (png(2, 2, color_type=2, pixels=b"\0abcdef\0abcdef"), "colour type 2 with 8 bits, expected grey"),
        (png(2, 2, color_type=3, pixels=ROWS), "colour type 3"),  # a palette
        (png(2, 2, color_type=4, pixels=ROWS), "colour type 4"),  # grey with alpha
        (png(2, 2, bits=1, pixels=b"\0a\0b"), "0 with 1 bits"),  # values that are no ids
        (png(2, 2, bits=16, color_type=9), "colour type 9"),  # no such type
        (png(2, 2, pixels=ROWS)[:26], "broken PNG"),  # cut after the header
        (png(2, 2, pixels=ROWS)[:45], "broken PNG"),  # cut inside its pixels
        (png(2, 2, pixels=ROWS)[:33] + b"\x7f\xff\xff\xffIDAT", "claims 2147483647"),  # memory that OpenCV would take
        (png(2, 2)[:33] + chunk(b"IEND", b"") + b"\x7f\xff\xff\xffIDAT", "ends before its pixels"),  # likewise
        (png(2, 2, pixels=ROWS)[:33] + chunk(b"aBcD", b"") * 70_000, "more than 65536 chunks"),
        (png(2, 2, pixels=b"\0a"), "broken PNG"),  # fewer pixels than the header claims
        (png(2, 2, pixels=b"\7ab\7cd"), "broken PNG"),  # no such filter
        (png(2, 2, pixels=ROWS).replace(b"IDAT", b"IDAX"), "broken PNG"),  # no pixels at all
    ],
)
def test_a_png_that_is_not_that_map_says_why(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        codecs.decode_png(data, 2, 2)


def test_the_hand_made_png_of_these_tests_is_one() -> None:
    np.testing.assert_array_equal(codecs.decode_png(png(2, 2, pixels=ROWS), 2, 2), [[97, 98], [99, 100]])


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_png_is_a_map_of_that_size_or_a_value_error(data: st.DataObject) -> None:
    whole = codecs.encode_panoptic_png(np.arange(300, dtype=np.int32).reshape(15, 20) * 7)
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)), "length")])
    for place in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=3), "places"):
        if damaged:
            damaged[place] = data.draw(st.integers(0, 255), "value")
    try:
        ids = codecs.decode_panoptic_png(bytes(damaged), 15, 20)
    except ValueError:
        return
    assert ids.shape == (15, 20)
    assert 0 <= ids.min() <= ids.max() <= 65535
