"""Fitting pictures to a model's input, against a slow reading of the rules and documented numbers of other projects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.runtime.engines import ResizeRule
from services.runtime.resize import Fit, crop_to_box, fit

LETTERBOX, STRETCH = ResizeRule("letterbox"), ResizeRule("stretch")
SHORTEST = ResizeRule("shortest_edge", shortest_edge=800, longest_edge=1333)

sides = st.integers(1, 400)


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 200, np.uint8)


def letterboxed(height: int, width: int, input_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """ultralytics' formula: scale to fit, share the rest between both sides, the odd pixel below and to the right."""
    scale = min(input_size[0] / height, input_size[1] / width)
    content_height, content_width = max(1, round(height * scale)), max(1, round(width * scale))
    rest_height, rest_width = (input_size[0] - content_height) / 2, (input_size[1] - content_width) / 2
    return round(rest_height - 0.1), round(rest_width - 0.1), content_height, content_width


@pytest.mark.parametrize(
    ("height", "width", "input_size", "content"),
    [
        # (top, left, height, width) that ultralytics' LetterBox gives for 640 x 640
        (1080, 810, (640, 640), (0, 80, 640, 480)),  # bus.jpg, the picture of its documentation
        (720, 1280, (640, 640), (140, 0, 360, 640)),  # zidane.jpg
        (480, 640, (640, 640), (80, 0, 480, 640)),  # no scaling, only bars
        (1080, 1920, (640, 640), (140, 0, 360, 640)),
        (640, 640, (640, 640), (0, 0, 640, 640)),  # nothing to do
        (479, 641, (640, 640), (81, 0, 478, 640)),  # odd sizes
        (427, 640, (640, 640), (106, 0, 427, 640)),  # an odd rest: 106 above, 107 below
        # extremes
        (1, 1, (640, 640), (0, 0, 640, 640)),
        (3, 4000, (640, 640), (319, 0, 1, 640)),  # half a pixel high would be nothing
        (4000, 3, (640, 640), (0, 319, 640, 1)),
        (1, 50_000, (384, 640), (191, 0, 1, 640)),
        # an input that is not square
        (1080, 1920, (384, 640), (12, 0, 360, 640)),
        (500, 375, (384, 640), (0, 176, 384, 288)),
    ],
)
def test_letterbox_puts_the_picture_where_ultralytics_does(
    height: int, width: int, input_size: tuple[int, int], content: tuple[int, int, int, int]
) -> None:
    fitted, placed = fit(picture(height, width), LETTERBOX, input_size)
    assert placed == Fit((height, width), input_size, content)
    assert letterboxed(height, width, input_size) == content
    assert (fitted.shape, fitted.dtype) == ((*input_size, 3), np.uint8)
    expected = np.full((*input_size, 3), 114, np.uint8)
    top, left, rows, columns = content
    expected[top : top + rows, left : left + columns] = 200
    np.testing.assert_array_equal(fitted, expected)


@given(sides, sides, sides, sides)
def test_letterbox_keeps_the_picture_whole_and_in_the_middle(height: int, width: int, rows: int, columns: int) -> None:
    fitted, placed = fit(picture(height, width), ResizeRule("letterbox", pad_value=7), (rows, columns))
    assert placed.content == letterboxed(height, width, (rows, columns))
    top, left, content_height, content_width = placed.content
    assert top + content_height <= rows
    assert left + content_width <= columns
    assert content_height == rows or content_width == columns
    assert abs(top - (rows - content_height - top)) <= 1
    assert abs(left - (columns - content_width - left)) <= 1
    assert (fitted == 200).all(axis=-1).sum() == content_height * content_width
    assert (fitted == 7).all(axis=-1).sum() == rows * columns - content_height * content_width


@given(sides, sides, sides, sides)
def test_stretch_fills_the_input(height: int, width: int, rows: int, columns: int) -> None:
    fitted, placed = fit(picture(height, width), STRETCH, (rows, columns))
    assert placed.content == (0, 0, rows, columns)
    assert fitted.shape == (rows, columns, 3)
    assert (fitted == 200).all()


@pytest.mark.parametrize(
    ("size", "torchvision"),
    [
        # What torchvision's GeneralizedRCNNTransform(800, 1333) makes of these; it cuts fractions of a pixel off, here
        # they are rounded, as detectron2 does.
        ((480, 640), (800, 1066)),
        ((640, 480), (1066, 800)),
        ((1080, 1920), (749, 1333)),  # the longer side decides
        ((800, 800), (800, 800)),
        ((720, 1280), (749, 1333)),
        ((427, 640), (800, 1199)),
        ((2000, 3000), (800, 1200)),  # larger pictures shrink
        ((100, 100), (800, 800)),  # smaller ones grow
        # Extremes; torchvision itself fails where a side would vanish.
        ((3, 4000), (1, 1333)),
        ((4000, 3), (1333, 1)),
        ((1, 1), (800, 800)),
    ],
)
def test_shortest_edge_scales_as_torchvision(size: tuple[int, int], torchvision: tuple[int, int]) -> None:
    fitted, placed = fit(picture(*size), SHORTEST, (-1, -1))
    assert np.abs(np.subtract(placed.input_size, torchvision)).max() <= 1
    assert placed == Fit(size, placed.input_size, (0, 0, *placed.input_size))
    assert fitted.shape == (*placed.input_size, 3)
    assert max(placed.input_size) <= 1333
    assert min(placed.input_size) == 800 or max(placed.input_size) == 1333


def test_detectron2_agrees_to_the_pixel() -> None:
    # ResizeShortestEdge(800, 1333): 640 * 800 / 480 = 1066.67, rounded.
    assert fit(picture(480, 640), SHORTEST, (-1, -1))[1].input_size == (800, 1067)


RULES = (LETTERBOX, STRETCH, ResizeRule("shortest_edge", shortest_edge=60, longest_edge=100))


def to_input(placed: Fit, box: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slow way there: scale about the origin, then move by the bars."""
    top, left, height, width = placed.content
    x_scale, y_scale = width / placed.picture_size[1], height / placed.picture_size[0]
    return np.array([box[0] * x_scale + left, box[1] * y_scale + top, box[2] * x_scale + left, box[3] * y_scale + top])


@given(st.sampled_from(RULES), sides, sides, st.lists(st.floats(0, 1), min_size=4, max_size=4))
@example(LETTERBOX, 3, 400, [0.1, 0.2, 0.9, 1.0])
@example(LETTERBOX, 1, 1, [0.0, 0.0, 1.0, 1.0])
def test_boxes_come_back(rule: ResizeRule, height: int, width: int, corners: list[float]) -> None:
    _, placed = fit(picture(height, width), rule, (96, 128) if rule.kind != "shortest_edge" else (-1, -1))
    box = np.array([width, height] * 2) * corners
    back = placed.to_picture(to_input(placed, box)[None].astype(np.float32))
    assert (back.dtype, back.shape) == (np.float32, (1, 4))
    np.testing.assert_allclose(back[0], box, rtol=1e-3, atol=1e-3 * max(height, width))


@given(st.sampled_from(RULES), sides, sides)
def test_the_content_is_the_whole_picture(rule: ResizeRule, height: int, width: int) -> None:
    _, placed = fit(picture(height, width), rule, (96, 128) if rule.kind != "shortest_edge" else (-1, -1))
    top, left, rows, columns = placed.content
    content = np.array([[left, top, left + columns, top + rows]], np.float32)
    np.testing.assert_allclose(placed.to_picture(content), [[0, 0, width, height]], rtol=1e-5, atol=1e-3)


def test_the_middle_of_the_input_shows_the_middle_of_the_picture() -> None:
    """Pixels and boxes agree: a bright square is found where the boxes say that it lies."""
    for height, width in ((1080, 1920), (200, 90), (64, 64)):
        image = np.zeros((height, width, 3), np.uint8)
        box = np.array([0.25 * width, 0.5 * height, 0.5 * width, 0.75 * height])
        image[round(box[1]) : round(box[3]), round(box[0]) : round(box[2])] = 255
        for rule in RULES:
            fitted, placed = fit(image, rule, (96, 128) if rule.kind != "shortest_edge" else (-1, -1))
            rows, columns = np.nonzero((fitted > 127).all(axis=-1))
            seen = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
            tolerance = max(height / placed.content[2], width / placed.content[3])
            np.testing.assert_allclose(placed.to_picture(seen)[0], box, atol=tolerance + 0.5)


def test_clip_cuts_boxes_off_at_the_edges() -> None:
    boxes = np.array([[-5, -6, 7, 8], [90, 40, 200, 300], [-9, -9, -1, -1], [1, 2, 3, 4]], np.float32)
    expected = [[0, 0, 7, 8], [90, 40, 100, 50], [0, 0, 0, 0], [1, 2, 3, 4]]
    assert Fit((50, 100), (64, 64), (0, 0, 64, 64)).clip(boxes).tolist() == expected


@pytest.mark.parametrize(
    ("content", "input_size", "map_size", "rows", "columns"),
    [
        ((140, 0, 360, 640), (640, 640), (640, 640), (140, 500), (0, 640)),  # the input's own grid
        ((140, 0, 360, 640), (640, 640), (80, 80), (18, 62), (0, 80)),  # an eighth: 17.5 to 62.5, rounded to even
        ((80, 0, 480, 640), (640, 640), (160, 160), (20, 140), (0, 160)),  # a quarter
        ((0, 80, 640, 480), (640, 640), (160, 160), (0, 160), (20, 140)),
        ((0, 0, 512, 1024), (512, 1024), (64, 128), (0, 64), (0, 128)),  # no bars
        ((319, 0, 1, 640), (640, 640), (80, 80), (40, 41), (0, 80)),  # less than a cell high: one row is left
        ((0, 639, 640, 1), (640, 640), (640, 640), (0, 640), (639, 640)),
    ],
)
def test_a_map_loses_its_bars(
    content: tuple[int, int, int, int],
    input_size: tuple[int, int],
    map_size: tuple[int, int],
    rows: tuple[int, int],
    columns: tuple[int, int],
) -> None:
    values = np.arange(map_size[0] * map_size[1]).reshape(map_size).astype(np.uint8)
    cropped = Fit((1, 1), input_size, content).crop(values)
    np.testing.assert_array_equal(cropped, values[rows[0] : rows[1], columns[0] : columns[1]])


@given(sides, sides, st.sampled_from([1, 2, 4, 8]))
def test_a_map_without_its_bars_is_never_empty(height: int, width: int, fraction: int) -> None:
    _, placed = fit(picture(height, width), LETTERBOX, (64, 96))
    assert placed.crop(np.zeros((64 // fraction, 96 // fraction), np.uint8)).size > 0


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((0, 0, 10, 8), (0, 8), (0, 10)),  # the whole picture
        ((2, 3, 5, 6), (3, 6), (2, 5)),  # whole pixels
        ((2.9, 3.9, 5.1, 6.1), (3, 7), (2, 6)),  # pixels that it touches
        ((4.2, 4.2, 4.4, 4.4), (4, 5), (4, 5)),  # less than a pixel
        ((9.999, 7.999, 10, 8), (7, 8), (9, 10)),  # the last corner
        ((10, 8, 10, 8), (7, 8), (9, 10)),  # an edge: still one pixel
    ],
)
def test_crop_to_box(box: tuple[float, float, float, float], rows: tuple[int, int], columns: tuple[int, int]) -> None:
    image = np.arange(240, dtype=np.uint8).reshape(8, 10, 3)
    np.testing.assert_array_equal(crop_to_box(image, box), image[slice(*rows), slice(*columns)])


def test_a_picture_longer_than_opencv_remaps_is_fitted() -> None:
    for size in ((3, 100_000), (100_000, 3)):
        for rule in RULES:
            fitted, _ = fit(picture(*size), rule, (96, 128) if rule.kind != "shortest_edge" else (-1, -1))
            assert fitted.size > 0
