"""Pictures that callers send, good and hostile."""

from __future__ import annotations

import io
import random
import resource
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from perception.v1 import image_pb2
from PIL import Image

from services.runtime.errors import InvalidInput, LimitExceeded, ServiceError
from services.runtime.images import ImageLimits, check, decode

LIMITS = ImageLimits(max_bytes=2**20, max_pixels=50_000_000)
RGB8, BGR8, GRAY8 = image_pb2.PIXEL_FORMAT_RGB8, image_pb2.PIXEL_FORMAT_BGR8, image_pb2.PIXEL_FORMAT_GRAY8


def encoded(data: bytes) -> image_pb2.Image:
    return image_pb2.Image(encoded=data)


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def photo(height: int = 60, width: int = 90) -> NDArray[np.uint8]:
    """Smooth, so that JPEG keeps it well, and the same under no rotation or flip."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=-1).astype(np.uint8)


UNKNOWN = "unknown or broken format: expected a JPEG, PNG or WebP file"

NASTY: list[tuple[str, tuple[int, int] | tuple[type[ServiceError], str]]] = [
    ("all_black.png", (480, 640)),
    ("all_white.png", (480, 640)),
    ("animated.gif", (InvalidInput, UNKNOWN)),
    ("bad_crc.png", (InvalidInput, "broken PNG")),
    ("bomb_30000x30000_1bit.png", (LimitExceeded, "a picture of 30208 x 30000 pixels, the limit is 50000000")),
    ("bomb_claims_65535x65535.png", (LimitExceeded, "a picture of 65535 x 65535 pixels, the limit is 50000000")),
    ("cmyk.jpg", (320, 480)),
    ("exif_orientation_3.jpg", (320, 480)),
    ("exif_orientation_6.jpg", (320, 480)),
    ("gray.jpg", (320, 480)),
    ("gray16.png", (320, 480)),
    ("html_named.jpg", (InvalidInput, UNKNOWN)),
    ("interlaced_like.gif", (InvalidInput, UNKNOWN)),
    ("jpeg_magic_only.jpg", (InvalidInput, UNKNOWN)),
    ("jpg_trailing_garbage.jpg", (320, 480)),
    ("lossless.webp", (214, 320)),
    ("nan_tensor.npy", (InvalidInput, UNKNOWN)),
    ("noise.png", (240, 320)),
    ("odd_641x479.jpg", (479, 641)),
    ("ok_baseline.jpg", (320, 480)),
    ("palette.png", (320, 480)),
    ("photo.bmp", (InvalidInput, UNKNOWN)),
    ("photo.tiff", (InvalidInput, UNKNOWN)),
    ("photo.webp", (320, 480)),
    ("progressive.jpg", (320, 480)),
    ("random_bytes.jpg", (InvalidInput, UNKNOWN)),
    ("rgb16.png", (320, 480)),
    ("rgba_half_transparent.png", (320, 480)),
    ("svg.svg", (InvalidInput, UNKNOWN)),
    ("tiny_1x1.png", (1, 1)),
    ("truncated_half.jpg", (InvalidInput, "broken JPEG: Premature end of JPEG file")),
    ("truncated_header.jpg", (InvalidInput, UNKNOWN)),
    ("wide_4000x3.png", (3, 4000)),
    ("zero_byte.jpg", (InvalidInput, "is empty: expected a JPEG, PNG or WebP file")),
]


def test_every_nasty_file_has_a_row(perception_data: Path) -> None:
    assert [name for name, _ in NASTY] == sorted(path.name for path in (perception_data / "nasty").iterdir())


@pytest.mark.parametrize(("name", "expected"), NASTY)
def test_nasty_files(
    perception_data: Path, name: str, expected: tuple[int, int] | tuple[type[ServiceError], str]
) -> None:
    message = encoded((perception_data / "nasty" / name).read_bytes())
    error, words = expected
    if isinstance(error, int):
        picture = decode(message, LIMITS)
        assert (picture.dtype, picture.shape) == (np.uint8, (*expected, 3))
        assert picture.flags.c_contiguous
        assert check(message, LIMITS).size == expected
        return
    with pytest.raises(ServiceError) as caught:
        decode(message, LIMITS)
    assert type(caught.value) is error
    assert str(caught.value) == f"image.encoded: {words}"
    assert caught.value.metadata()["field"] == "image.encoded"


@pytest.mark.parametrize("name", ["exif_orientation_3.jpg", "exif_orientation_6.jpg"])
def test_rotated_photos_come_out_upright(perception_data: Path, name: str) -> None:
    upright = decode(encoded((perception_data / "nasty" / "ok_baseline.jpg").read_bytes()), LIMITS)
    rotated = decode(encoded((perception_data / "nasty" / name).read_bytes()), LIMITS)
    # Encoded twice, so not equal; turned by half a turn the two would differ by tens.
    assert np.abs(upright.astype(int) - rotated).mean() < 3
    assert np.abs(upright.astype(int) - rotated[::-1, ::-1]).mean() > 20


def test_what_a_photo_means_does_not_depend_on_how_it_is_stored(perception_data: Path) -> None:
    """Sixteen bits, a palette, an alpha channel and WebP of one photo, against that photo."""
    nasty = perception_data / "nasty"
    control = decode(encoded((nasty / "ok_baseline.jpg").read_bytes()), LIMITS).astype(int)
    for name in ("rgb16.png", "palette.png", "rgba_half_transparent.png", "photo.webp", "progressive.jpg", "cmyk.jpg"):
        other = decode(encoded((nasty / name).read_bytes()), LIMITS)
        assert np.abs(control - other).mean() < 12, name


# How the upright picture is stored under each orientation, by EXIF's definition: where the stored first row and first
# column lie in the displayed picture.
STORED: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],  # row: top, column: right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.transpose(1, 0, 2),  # row: left, column: top
    6: lambda upright: upright.transpose(1, 0, 2)[::-1],  # row: right side, column: top
    7: lambda upright: upright.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
    8: lambda upright: upright.transpose(1, 0, 2)[:, ::-1],  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("file_format", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 95})]
)
def test_every_orientation_shows_the_upright_picture(
    orientation: int, file_format: str, options: dict[str, object]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](photo())))
    message = encoded(saved(stored, file_format, exif=exif, **options))
    picture = decode(message, LIMITS)
    tolerance = 6 if file_format == "JPEG" else 0
    assert picture.shape == photo().shape
    assert np.abs(picture.astype(int) - photo()).mean() <= tolerance
    assert check(message, LIMITS).size == picture.shape[:2]


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_counts_as_upright(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(decode(encoded(saved(Image.fromarray(photo()), "PNG", exif=exif)), LIMITS), photo())


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",  # nothing after its name
        b"Exif\0\0II*\0\xff\xff\xff\xff",  # a directory beyond the end
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(30),  # a directory of 65,535 entries
        b"no EXIF",
    ],
)
def test_broken_exif_says_nothing_about_the_pixels(exif: bytes) -> None:
    message = encoded(saved(Image.fromarray(photo()), "JPEG", exif=exif))
    assert decode(message, LIMITS).shape == photo().shape


def test_xmp_is_not_exif() -> None:
    # Browsers and OpenCV turn a picture by its EXIF alone.
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    message = encoded(saved(Image.fromarray(photo()), "JPEG", xmp=xmp))
    assert decode(message, LIMITS).shape == photo().shape


GREY_16 = (np.arange(60 * 90).reshape(60, 90) * 12).astype(np.uint16)


@pytest.mark.parametrize(
    ("image", "file_format", "expected"),
    [
        # grey: all channels alike
        (Image.fromarray(photo()[..., 0]), "PNG", np.repeat(photo()[..., :1], 3, axis=2)),
        # 16 bits: the upper eight count, and do not wrap around
        (Image.fromarray(GREY_16), "PNG", np.repeat((GREY_16 >> 8).astype(np.uint8)[..., None], 3, axis=2)),
        # one bit
        (Image.fromarray(photo()[..., 0] > 99), "PNG", np.repeat((photo()[..., :1] > 99) * np.uint8(255), 3, axis=2)),
        # an alpha channel is dropped, also where it hides the pixel
        (Image.fromarray(np.dstack([photo(), np.zeros((60, 90), np.uint8)])), "PNG", photo()),
        # grey with alpha
        (Image.fromarray(photo()[..., 0]).convert("LA"), "PNG", np.repeat(photo()[..., :1], 3, axis=2)),
        # few colours, as a palette
        (Image.fromarray(photo() // 128 * 128).quantize(8), "PNG", photo() // 128 * 128),
        (Image.fromarray(photo()), "PNG", photo()),
    ],
    ids=["grey", "16 bits", "1 bit", "alpha", "grey and alpha", "palette", "rgb"],
)
def test_kinds_of_png(image: Image.Image, file_format: str, expected: NDArray[np.uint8]) -> None:
    np.testing.assert_allclose(decode(encoded(saved(image, file_format)), LIMITS), expected, atol=1)


def test_an_animation_counts_with_its_first_frame() -> None:
    first, second = Image.fromarray(photo()), Image.new("RGB", (90, 60), "red")
    for options in ({"format": "WEBP", "lossless": True}, {"format": "PNG"}):
        file = io.BytesIO()
        first.save(file, save_all=True, append_images=[second, second], **options)
        np.testing.assert_array_equal(decode(encoded(file.getvalue()), LIMITS), photo())


def test_a_jpeg_of_several_pictures_counts_with_its_first() -> None:
    """MPO, as phones and stereo cameras write it."""
    file = io.BytesIO()
    first, second = Image.fromarray(photo()), Image.new("RGB", (45, 30), "red")
    first.save(file, "MPO", save_all=True, append_images=[second])
    message = encoded(file.getvalue())
    assert np.abs(decode(message, LIMITS).astype(int) - photo()).mean() < 6
    assert check(message, LIMITS).size == (60, 90)


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def raw(pixel_format: int, height: int, width: int, data: bytes, stride: int = 0) -> image_pb2.Image:
    message = image_pb2.RawImage(format=pixel_format, height=height, width=width, stride=stride, data=data)  # type: ignore[arg-type]
    return image_pb2.Image(raw=message)


PADDED = b"".join(row.tobytes() + b"\xee\xee" for row in PIXELS)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (raw(RGB8, 2, 3, PIXELS.tobytes()), PIXELS),
        (raw(BGR8, 2, 3, PIXELS.tobytes()), PIXELS[..., ::-1]),
        (raw(GRAY8, 2, 3, bytes(range(6))), np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), 3, axis=2)),
        # a stride that says what is the case
        (raw(RGB8, 2, 3, PIXELS.tobytes(), stride=9), PIXELS),
        # gaps between rows
        (raw(RGB8, 2, 3, PADDED, stride=11), PIXELS),
        (raw(BGR8, 2, 3, PADDED, stride=11), PIXELS[..., ::-1]),
        # no gap after the last one
        (raw(RGB8, 2, 3, PADDED[:-2], stride=11), PIXELS),
        # part of a gap
        (raw(RGB8, 2, 3, PADDED[:-1], stride=11), PIXELS),
        (raw(GRAY8, 1, 1, b"\x07"), np.full((1, 1, 3), 7, np.uint8)),
    ],
)
def test_raw_pixels(message: image_pb2.Image, expected: NDArray[np.uint8]) -> None:
    picture = decode(message, LIMITS)
    np.testing.assert_array_equal(picture, expected)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    assert check(message, LIMITS).size == expected.shape[:2]


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        (image_pb2.Image(), InvalidInput, "image: is empty: expected `encoded` or `raw`"),
        (encoded(b""), InvalidInput, "image.encoded: is empty"),
        (encoded(bytes(2**20 + 1)), LimitExceeded, "image.encoded: a file of 1048577 bytes, the limit is 1048576"),
        (raw(0, 2, 3, bytes(18)), InvalidInput, "image.raw.format: is 0: expected RGB8, BGR8 or GRAY8"),
        (raw(9, 2, 3, bytes(18)), InvalidInput, "image.raw.format: is 9"),
        (raw(RGB8, 0, 3, b""), InvalidInput, "image.raw.height: is 0: expected at least 1 pixel"),
        (raw(RGB8, 2, 0, b""), InvalidInput, "image.raw.width: is 0: expected at least 1 pixel"),
        # one byte too few, one too many
        (raw(RGB8, 2, 3, bytes(17)), InvalidInput, "image.raw.data: holds 17 bytes: 2 rows of 9 bytes take 18 bytes"),
        (raw(RGB8, 2, 3, bytes(19)), InvalidInput, "image.raw.data: holds 19 bytes"),
        (raw(RGB8, 2, 3, bytes(19), 11), InvalidInput, "holds 19 bytes: 2 rows of 11 bytes take 20 to 22 bytes"),
        (raw(RGB8, 2, 3, bytes(23), 11), InvalidInput, "holds 23 bytes"),
        # rows that overlap
        (raw(RGB8, 2, 3, bytes(18), 8), InvalidInput, "image.raw.stride: is 8: a row of 3 pixels takes 9 bytes"),
        # a size whose product would overflow 32 and 64 bits
        (
            raw(RGB8, 2**32 - 1, 2**32 - 1, b"x"),
            LimitExceeded,
            "image.raw: a picture of 4294967295 x 4294967295 pixels",
        ),
        (raw(GRAY8, 1, 2**20 + 1, bytes(2**20 + 1)), LimitExceeded, "image.raw.data: pixels of 1048577 bytes"),
        # a gap that no memory holds
        (raw(RGB8, 2, 3, bytes(18), 2**32 - 1), InvalidInput, "image.raw.data: holds 18 bytes"),
    ],
)
def test_a_message_that_is_no_picture(message: image_pb2.Image, error: type[ServiceError], words: str) -> None:
    for look in (decode, check):
        with pytest.raises(ServiceError) as caught:
            look(message, LIMITS)
        assert type(caught.value) is error
        assert words in str(caught.value)


def test_the_limits_are_the_callers() -> None:
    data = saved(Image.fromarray(photo()), "PNG")
    exact = ImageLimits(max_bytes=len(data), max_pixels=60 * 90)
    assert decode(encoded(data), exact).shape == (60, 90, 3)
    for tight in (ImageLimits(len(data) - 1, 60 * 90), ImageLimits(len(data), 60 * 90 - 1)):
        with pytest.raises(LimitExceeded):
            decode(encoded(data), tight)


def test_the_header_is_read_without_decoding_the_pixels() -> None:
    """A picture of 40 million pixels: its size is known a hundred times sooner than its pixels."""
    data = saved(Image.new("RGB", (8000, 5000)), "PNG")
    started = time.process_time()
    assert check(encoded(data), LIMITS).size == (5000, 8000)
    looked = time.process_time() - started
    assert decode(encoded(data), LIMITS).shape == (5000, 8000, 3)
    assert looked < (time.process_time() - started - looked) / 20


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_claim(height: int, width: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(1000)))


def jpeg_claim(height: int, width: int) -> bytes:
    data = bytearray(saved(Image.new("RGB", (8, 8)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_claim(height: int, width: int) -> bytes:
    data = bytearray(saved(Image.new("RGB", (8, 8)), "WEBP", lossless=True))
    start = data.index(b"VP8L") + 9
    (bits,) = struct.unpack("<I", data[start : start + 4])
    data[start : start + 4] = struct.pack("<I", bits & ~0xFFFFFFF | width - 1 | (height - 1) << 14)
    return bytes(data)


def png_of_text(size: int) -> bytes:
    """A small picture with a comment that inflates to `size` bytes."""
    data = png_claim(1, 1)
    comment = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(size), 9))
    return data[:33] + comment + data[33:]


def png_of_pixels_behind_its_end(size: int) -> bytes:
    """A picture without pixels, behind whose end some claim `size` bytes."""
    return png_claim(8, 8)[:33] + png_chunk(b"IEND", b"") + struct.pack(">I", size) + b"IDAT"


def png_of_chunk(size: int) -> bytes:
    """A small picture whose pixels claim `size` bytes of the file."""
    data = bytearray(saved(Image.new("L", (8, 8)), "PNG"))
    pixels = data.index(b"IDAT")
    data[pixels - 4 : pixels] = struct.pack(">I", size)
    return bytes(data)


BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: png_claim(65_535, 65_535),
    "png of the greatest size": lambda: png_claim(2**31 - 1, 2**31 - 1),
    "jpeg": lambda: jpeg_claim(65_500, 65_500),
    "webp": lambda: webp_claim(16_383, 16_383),
    "png of a great chunk": lambda: png_of_chunk(2**31 - 1),
    "png of pixels behind its end": lambda: png_of_pixels_behind_its_end(2**31 - 1),
    "comment in a png": lambda: png_of_text(200 * 2**20),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory_and_time(name: str, tmp_path: Path) -> None:
    """In a process of its own, whose greatest memory the kernel tells."""
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[name]())
    program = """
        import pathlib, resource, sys, time
        from perception.v1 import image_pb2
        from services.runtime.errors import ServiceError
        from services.runtime.images import ImageLimits, decode
        image = image_pb2.Image(encoded=pathlib.Path(sys.argv[1]).read_bytes())
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            decode(image, ImageLimits(2**25, 50_000_000))
        except ServiceError as error:
            seconds = time.process_time() - started
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, seconds, error)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    kibibytes, seconds, *words = answer.stdout.split()
    assert int(kibibytes) < 16 * 1024
    assert float(seconds) < 2
    assert words[0] == "image.encoded:"


def progressive(height: int, width: int, repeated: int) -> bytes:
    """A progressive JPEG whose last scan comes that many times more."""
    data = saved(Image.fromarray(photo(height, width)), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * repeated + b"\xff\xd9"


def test_a_jpeg_of_endless_scans_is_refused_at_once() -> None:
    """Some bytes a scan, each of which costs a pass over the whole picture."""
    started = time.process_time()
    for look in (check, decode):
        with pytest.raises(InvalidInput, match="a JPEG of more than 100 scans"):
            look(encoded(progressive(64, 96, 2000)), LIMITS)
    assert time.process_time() - started < 1


def test_what_looks_like_scans_behind_a_picture_or_in_its_comments_does_not_count() -> None:
    data = saved(Image.fromarray(photo()), "JPEG", progressive=True, comment=b"\xff\xda" * 1000)
    assert decode(encoded(data + b"\xff\xda" * 1000), LIMITS).shape == (60, 90, 3)


def survives(data: bytes) -> None:
    """Decodes, or refuses as a service does; agrees with its header; takes less than a second and 64 MiB."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    size = None
    try:
        size = check(encoded(data), SMALL).size
        picture = decode(encoded(data), SMALL)
    except ServiceError as error:
        assert error.metadata().get("field") == "image.encoded"
    else:
        assert picture.shape == (*size, 3)
    assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


SMALL = ImageLimits(max_bytes=2**20, max_pixels=1_000_000)
FILES = {
    "jpeg": saved(Image.fromarray(photo()), "JPEG"),
    "progressive": saved(Image.fromarray(photo()), "JPEG", progressive=True),
    "png": saved(Image.fromarray(photo()), "PNG"),
    "webp": saved(Image.fromarray(photo()), "WEBP"),
    "lossless webp": saved(Image.fromarray(photo()), "WEBP", lossless=True),
    "animated webp": saved(
        Image.fromarray(photo()), "WEBP", save_all=True, append_images=[Image.new("RGB", (90, 60), "red")]
    ),
}


@settings(max_examples=150)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_damaged_files_are_pictures_or_refused(name: str, data: st.DataObject) -> None:
    damaged = bytearray(FILES[name])
    if data.draw(st.booleans(), "cut"):
        damaged = damaged[: data.draw(st.integers(1, len(damaged)), "length")]
    # Headers are small and decide most, so half of the damage goes there.
    place = st.integers(0, min(64, len(damaged)) - 1) | st.integers(0, len(damaged) - 1)
    for at in data.draw(st.lists(place, max_size=4), "places"):
        damaged[at] ^= 1 << data.draw(st.integers(0, 7), "bit")
    survives(bytes(damaged))


@settings(max_examples=150)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBPVP8 "]), st.binary(max_size=200)
)
def test_any_bytes_are_a_picture_or_refused(signature: bytes, rest: bytes) -> None:
    survives(signature + rest)


def test_random_damage_to_real_photos(perception_data: Path) -> None:
    chance = random.Random(0)
    for name in (
        "ok_baseline.jpg",
        "progressive.jpg",
        "palette.png",
        "photo.webp",
        "cmyk.jpg",
        "exif_orientation_6.jpg",
    ):
        whole = (perception_data / "nasty" / name).read_bytes()
        for _ in range(12):
            damaged = bytearray(whole)
            for _ in range(chance.choice([1, 1, 5, 50])):
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            survives(bytes(damaged))


def test_opencv_does_not_turn_pictures_a_second_time() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(photo()).convert("CMYK"), "JPEG", exif=exif)
    turned = cv2.rotate(photo(), cv2.ROTATE_90_CLOCKWISE)
    assert decode(encoded(data), LIMITS).shape == turned.shape
