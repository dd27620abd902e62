"""Pasting masks: the rule of the docstring against a slow reading of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from perception import masks
from perception.masks import HALF, column_runs, paste, paste_probability, relative_to

HEIGHT, WIDTH = 30, 40

TOLERANCE = 1
"""Probabilities are rounded to whole numbers."""

box_masks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Boxes of some area, inside the grid, over its edges or beyond them."""
    x, y = draw(st.floats(-20, WIDTH + 5, width=32)), draw(st.floats(-20, HEIGHT + 5, width=32))
    width, height = draw(st.floats(0.0625, 60, width=32)), draw(st.floats(0.0625, 60, width=32))
    return x, y, x + width, y + height


def slow_probability(mask: NDArray[np.uint8], box: tuple[float, ...]) -> NDArray[np.float64]:
    """float64 [HEIGHT, WIDTH]: the mask interpolated bilinearly at every pixel's centre, NaN outside of the box."""
    x_min, y_min, x_max, y_max = box
    rows, columns = mask.shape
    picture = np.full((HEIGHT, WIDTH), np.nan)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            x, y = column + 0.5, row + 0.5
            if not (x_min <= x < x_max and y_min <= y < y_max):
                continue
            # In cells, whose centres are at one half; beyond the centre of a border cell its own value holds.
            u = np.clip((x - x_min) / (x_max - x_min) * columns - 0.5, 0, columns - 1)
            v = np.clip((y - y_min) / (y_max - y_min) * rows - 0.5, 0, rows - 1)
            left, top = min(int(u), max(columns - 2, 0)), min(int(v), max(rows - 2, 0))
            right, bottom = min(left + 1, columns - 1), min(top + 1, rows - 1)
            upper = mask[top, left] * (1 - (u - left)) + mask[top, right] * (u - left)
            lower = mask[bottom, left] * (1 - (u - left)) + mask[bottom, right] * (u - left)
            picture[row, column] = upper * (1 - (v - top)) + lower * (v - top)
    return picture


def over_picture(part: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    picture[y : y + part.shape[0], x : x + part.shape[1]] = part
    return picture


@given(box_masks, boxes())
def test_paste_is_bilinear_at_the_centres_of_pixels(mask: NDArray[np.uint8], box: tuple[float, ...]) -> None:
    expected = slow_probability(mask, box)
    found = over_picture(*paste_probability(mask, box, HEIGHT, WIDTH))
    inside = ~np.isnan(expected)
    np.testing.assert_allclose(found[inside], expected[inside], atol=TOLERANCE)
    assert not found[~inside].any()


@given(box_masks, boxes())
def test_the_decision_is_one_half_and_nothing_lies_outside(mask: NDArray[np.uint8], box: tuple[float, ...]) -> None:
    part, x, y = paste(mask, box, HEIGHT, WIDTH)
    probability, *place = paste_probability(mask, box, HEIGHT, WIDTH)
    np.testing.assert_array_equal(part, probability > HALF)
    assert place == [x, y]
    assert 0 <= x <= x + part.shape[1] <= WIDTH
    assert 0 <= y <= y + part.shape[0] <= HEIGHT
    rows, columns = np.nonzero(part)
    if rows.size:
        assert columns.min() + x + 0.5 >= box[0]
        assert columns.max() + x + 0.5 <= box[2]
        assert rows.min() + y + 0.5 >= box[1]
        assert rows.max() + y + 0.5 <= box[3]


@given(box_masks, st.integers(0, WIDTH - 9), st.integers(0, HEIGHT - 9))
def test_a_box_of_the_masks_own_size_on_whole_pixels_copies_it(mask: NDArray[np.uint8], x: int, y: int) -> None:
    rows, columns = mask.shape
    part, left, top = paste_probability(mask, (x, y, x + columns, y + rows), HEIGHT, WIDTH)
    assert (left, top) == (x, y)
    np.testing.assert_array_equal(part, mask)


@given(box_masks, boxes())
def test_mirrored_input_gives_mirrored_output(mask: NDArray[np.uint8], box: tuple[float, ...]) -> None:
    x_min, y_min, x_max, y_max = box
    # A centre exactly on an edge belongs to the box at its start and not at its end, which has no mirror image.
    assume(all((edge - 0.5) % 1 for edge in box))
    straight = over_picture(*paste_probability(mask, box, HEIGHT, WIDTH)).astype(int)
    across = over_picture(
        *paste_probability(mask[:, ::-1], (WIDTH - x_max, y_min, WIDTH - x_min, y_max), HEIGHT, WIDTH)
    )
    upside = over_picture(*paste_probability(mask[::-1], (x_min, HEIGHT - y_max, x_max, HEIGHT - y_min), HEIGHT, WIDTH))
    np.testing.assert_allclose(across[:, ::-1].astype(int), straight, atol=2 * TOLERANCE)
    np.testing.assert_allclose(upside[::-1].astype(int), straight, atol=2 * TOLERANCE)


@given(box_masks, boxes())
def test_runs_are_those_of_the_pasted_pixels(mask: NDArray[np.uint8], box: tuple[float, ...]) -> None:
    starts, ends = column_runs([mask], [box], HEIGHT, WIDTH)
    assert (starts < ends).all()
    assert (ends[:-1] <= starts[1:]).all()
    assert (starts // HEIGHT == (ends - 1) // HEIGHT).all(), "no run leaves its column"
    found = np.zeros(WIDTH * HEIGHT, np.bool_)
    for start, end in zip(starts, ends, strict=True):
        found[start:end] = True
    probability = slow_probability(mask, box)
    expected = np.nan_to_num(probability) >= HALF + 0.5
    differs = expected != found.reshape(WIDTH, HEIGHT).T
    assert np.allclose(probability[differs], HALF + 0.5, atol=0.01), "only where it is one half up to rounding"


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((0, 0, WIDTH, HEIGHT), WIDTH * HEIGHT),  # the whole picture
        ((-100, -100, 200, 200), WIDTH * HEIGHT),  # far over its edges
        ((3, 4, 4, 5), 1),  # one pixel
        ((3.4, 4.4, 3.6, 4.6), 1),  # less than a pixel, around its centre
        ((3.6, 4.6, 4.4, 5.4), 0),  # less than a pixel, around no centre
        ((2.5, 2.5, 3.5, 3.5), 1),  # from centre to centre: the first belongs to it, the last does not
        ((50, 2, 60, 4), 0),  # right of the picture
        ((-9, 2, -3, 4), 0),  # left of it
        ((5, 5, 5, 9), 0),  # a line
        ((9, 9, 5, 5), 0),  # turned around
    ],
)
def test_how_many_pixels_a_full_mask_covers(box: tuple[float, ...], pixels: int) -> None:
    part, _, _ = paste(np.full((7, 7), 255, np.uint8), box, HEIGHT, WIDTH)
    assert part.sum() == pixels


def test_a_picture_may_be_longer_than_opencv_takes() -> None:
    ramp = np.linspace(0, 255, 16, dtype=np.uint8)[None]
    part, x, y = paste_probability(ramp, (0, 0, 70_000, 3), 3, 70_000)
    assert (part.shape, x, y) == ((3, 70_000), 0, 0)
    assert (np.diff(part.astype(int), axis=1) >= 0).all(), "no seam where tiles meet"
    tall, _, _ = paste_probability(ramp.T, (0, 0, 3, 70_000), 70_000, 3)
    np.testing.assert_array_equal(tall, part.T)


@given(box_masks)
def test_relative_to_the_same_box_changes_nothing(mask: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(relative_to(mask, (3, 4, 20, 31), (3, 4, 20, 31)), mask)


def test_relative_to_a_part_keeps_what_the_part_shows() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255  # the right half
    box = (0, 0, 16, 16)
    assert (relative_to(mask, box, (10, 0, 16, 16)) == 255).all()
    assert (relative_to(mask, box, (0, 0, 6, 16)) == 0).all()
    # Half of this part is the object's, at its right.
    seen = relative_to(mask, box, (4, 0, 12, 16)) > HALF
    assert not seen[:, :4].any()
    assert seen[:, 4:].all()


@given(boxes())
def test_a_box_cut_off_at_the_edge_shows_the_same_pixels(box: tuple[float, ...]) -> None:
    """What an instance service answers for a box over the picture's edge, against the model's whole box."""
    cut = tuple(np.clip(box, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]))
    assume(cut[2] - cut[0] > 1 and cut[3] - cut[1] > 1)
    rows, columns = np.mgrid[0:28, 0:28]
    disc = (255 * (np.hypot(rows - 13.5, columns - 13.5) < 12)).astype(np.uint8)
    whole = over_picture(*paste_probability(disc, box, HEIGHT, WIDTH)) > HALF
    shown = over_picture(*paste_probability(relative_to(disc, box, cut), cut, HEIGHT, WIDTH)) > HALF
    # Resampled twice, so pixels on the disc's outline may differ.
    perimeter = 4 * (HEIGHT + WIDTH)
    assert (whole != shown).sum() <= 0.1 * perimeter


def test_what_the_module_exports_reads_any_array_like_box() -> None:
    mask = np.full((2, 2), 255, np.uint8)
    for box in ([1, 1, 3, 3], np.array([1, 1, 3, 3], np.float32), (1, 1, 3, 3)):
        part, x, y = masks.paste(mask, box, 5, 5)
        assert (part.sum(), x, y) == (4, 1, 1)
