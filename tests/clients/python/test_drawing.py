"""Drawing a scene over its picture."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from perception import Scene, drawing
from perception.types import Attribute, Panoptic, Segment, Track
from PIL import Image

from tests.clients.python.scenes import IDS, response

GREY = 100


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), GREY, np.uint8)


def scene_of(height: int, width: int, map_height: int, map_width: int) -> Panoptic:
    """A red car in the middle of a blue road, over a picture of height x width."""
    ids = np.full((map_height, map_width), 2, np.int32)
    ids[map_height // 4 : -(map_height // 4) or None, map_width // 4 : -(map_width // 4) or None] = 5
    box = (width / 4, height / 4, width * 3 / 4, height * 3 / 4)
    road = Segment(2, "road", 2, False, 1.0, (0, 0, width, height), 10, color=(0, 0, 255))
    car = Segment(5, "car", 1, True, 0.9, box, 10, (Attribute("paint", "red", 0.8),), color=(255, 0, 0))
    return Panoptic(ids, tuple(segment for segment in (car, road) if (ids == segment.id).any()))


def test_segments_are_tinted_in_the_colour_of_their_category() -> None:
    drawn = drawing.draw_panoptic(picture(400, 600), scene_of(400, 600, 400, 600))
    assert (drawn.dtype, drawn.shape) == (np.uint8, (400, 600, 3))
    # Half picture, half tint, at places without a name or an outline. Shades of red differ by id; 5 has none.
    assert drawn[250, 300].tolist() == [(GREY + 255) // 2, GREY // 2, GREY // 2]
    assert drawn[390, 20].tolist() == [GREY // 2, GREY // 2, (GREY + 255) // 2]


def test_void_keeps_its_pixels_and_the_picture_is_left_alone() -> None:
    before = picture(50, 60)
    drawn = drawing.draw_panoptic(before, Panoptic.empty(50, 60))
    np.testing.assert_array_equal(drawn, picture(50, 60))
    drawn[:] = 0
    assert (before == GREY).all()


def test_things_of_one_category_differ_in_shade() -> None:
    ids = np.zeros((300, 300), np.int32)
    segments = []
    for index, number in enumerate(range(11, 14)):
        ids[index * 100 : index * 100 + 100] = number
        box = (0.0, index * 100.0, 300.0, index * 100.0 + 100)
        segments.append(Segment(number, "car", 1, True, 0.9, box, 30_000, color=(120, 80, 200)))
    drawn = drawing.draw_panoptic(picture(300, 300), Panoptic(ids, tuple(segments)))
    shades = {tuple(drawn[row, 250].tolist()) for row in (70, 170, 270)}
    assert len(shades) == 3


def test_a_tracked_thing_bears_its_number_and_keeps_its_shade() -> None:
    def drawn(segment_id: int, track: Track | None) -> NDArray[np.uint8]:
        ids = np.full((200, 300), segment_id, np.int32)
        car = Segment(segment_id, "car", 1, True, 0.9, (0, 0, 300, 200), 60_000, color=(120, 80, 200), track=track)
        return drawing.draw_panoptic(picture(200, 300), Panoptic(ids, (car,)))

    # The segment's id changes from frame to frame; the track's does not.
    first, second = (drawn(number, Track(7, 2, 0.1, (0.0, 0.0))) for number in (11, 13))
    np.testing.assert_array_equal(first, second)
    assert drawn(11, None)[150, 250].tolist() != drawn(13, None)[150, 250].tolist()
    name = (slice(0, 20), slice(0, 300))
    assert (first[name] != drawn(11, None)[name]).any()
    assert (first[name] != drawn(11, Track(8, 2, 0.1, (0.0, 0.0)))[name]).any()


def test_a_thing_is_outlined_and_stuff_is_not() -> None:
    ids = np.full((100, 100), 1, np.int32)
    ids[50:] = 2
    road = Segment(1, "road", 1, False, 1.0, (0, 0, 100, 50), 5000, color=(0, 0, 0))
    sky = Segment(2, "sky", 2, False, 1.0, (0, 50, 100, 100), 5000, color=(0, 0, 0))
    # Its box lies elsewhere, so that it does not cover the outline.
    person = Segment(2, "person", 2, True, 1.0, (0, 80, 100, 100), 5000, color=(0, 0, 0))
    only_stuff = drawing.draw_panoptic(picture(100, 100), Panoptic(ids, (road, sky)))
    with_thing = drawing.draw_panoptic(picture(100, 100), Panoptic(ids, (person, road)))
    assert not (only_stuff[50] == 255).all(axis=-1).any()
    assert (with_thing[50] == 255).all()


@pytest.mark.parametrize(
    ("size", "map_size"),
    [
        ((120, 160), (120, 160)),  # the frame's own grid
        ((120, 160), (30, 40)),  # a coarser one
        ((120, 160), (480, 640)),  # a finer one
        ((121, 163), (64, 64)),  # of another shape
        ((120, 160), (1, 1)),  # one cell
        ((3, 4000), (3, 4000)),  # a picture lower than any letter
        ((4000, 3), (100, 3)),  # one narrower than any letter
        ((1, 1), (1, 1)),  # a picture of one pixel
        ((1, 1), (64, 64)),  # in which most segments have no pixel left
    ],
)
def test_a_map_of_any_size_covers_the_picture(size: tuple[int, int], map_size: tuple[int, int]) -> None:
    drawn = drawing.draw_panoptic(picture(*size), scene_of(*size, *map_size))
    assert (drawn.dtype, drawn.shape) == (np.uint8, (*size, 3))
    assert (drawn != GREY).any()


def test_boxes_and_names_over_the_edge_are_drawn_as_far_as_they_show() -> None:
    ids = np.zeros((40, 60), np.int32)
    ids[0, 0] = 1
    thing = Segment(1, "a name longer than the picture is wide", 1, True, 0.9, (-500, -500, 900, 900), 1)
    assert drawing.draw_panoptic(picture(40, 60), Panoptic(ids, (thing,))).shape == (40, 60, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPG", ".webp"])
def test_a_scene_is_written_in_the_format_of_the_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"overlay{suffix}"
    scene = Scene.from_message(response(), np.full((*IDS.shape, 3), GREY, np.uint8))
    drawn = scene.draw(path)
    with Image.open(path) as written:
        assert written.format == {".png": "PNG", ".webp": "WEBP"}.get(suffix.lower(), "JPEG")
        assert written.size == (IDS.shape[1], IDS.shape[0])
        if suffix == ".png":
            np.testing.assert_array_equal(np.asarray(written.convert("RGB")), drawn)


@pytest.mark.parametrize("name", ["overlay", "overlay.", "overlay.xyz", "overlay.txt"])
def test_a_suffix_that_no_format_has_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no image format known by this suffix"):
        Scene.from_message(response()).draw(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_without_a_picture_the_scene_is_drawn_on_black() -> None:
    drawn = Scene.from_message(response()).draw()
    assert drawn.shape == (*IDS.shape, 3)


@pytest.mark.parametrize("kind", ["path", "string", "bytes", "array"])
def test_every_kind_of_picture_is_drawn_on(tmp_path: Path, kind: str) -> None:
    pixels = np.full((*IDS.shape, 3), (200, 100, 0), np.uint8)
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    (tmp_path / "frame.png").write_bytes(data)
    path = tmp_path / "frame.png"
    image = {"path": path, "string": str(path), "bytes": data, "array": pixels}[kind]
    np.testing.assert_array_equal(drawing.read_picture(image, IDS.shape), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_drawn_on_as_displayed(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stored, "JPEG", exif=exif)
    expected = (6, 8, 3) if orientation <= 4 else (8, 6, 3)
    assert drawing.read_picture(stored.getvalue(), (1, 1)).shape == expected


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff"])
def test_a_picture_that_cannot_be_decoded_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        Scene.from_message(response(), data).draw()
