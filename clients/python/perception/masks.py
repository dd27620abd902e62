"""Box-relative masks: resampling them onto a grid of pixels.

A mask is interpolated by two matrix products, its rows' weights x its cells x its columns' weights, which costs a small
part of what looking up four cells for every pixel does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

HALF = 127
"""A cell belongs to the object where its probability times 255 is above this."""

_AT_ONCE = 32
"""Masks whose weights are worked out together."""

Pasted = tuple[NDArray[np.uint8], int, int]
"""Probabilities times 255, uint8 [rows, columns], and the column and row of the top left pixel on the grid."""


def paste(mask: NDArray[np.uint8], box: ArrayLike, height: int, width: int) -> tuple[NDArray[np.bool_], int, int]:
    """Draws a box-relative mask onto the pixels of a grid.

    mask: uint8 [h, w], probability times 255, covering `box` exactly. box: xyxy in pixels of the grid, edges anywhere.
    Returns the mask on the pixels under the box as bool [rows, columns] and the column and row of its top left pixel;
    pixels outside the grid are cut off. A pixel belongs to the object when the probability, interpolated bilinearly at
    its centre, is above one half; pixels whose centre lies outside the box do not.
    """
    probability, x, y = paste_probability(mask, box, height, width)
    return probability > HALF, x, y


def paste_probability(mask: NDArray[np.uint8], box: ArrayLike, height: int, width: int) -> Pasted:
    """As `paste`, before the decision: uint8 [rows, columns], probability times 255, 0 outside the box."""
    return next(paste_each([mask], np.asarray(box, np.float64)[None], height, width))


def paste_each(
    masks: Sequence[NDArray[np.uint8]], boxes: NDArray[np.floating], height: int, width: int
) -> Iterator[Pasted]:
    """`paste_probability` of every mask, boxes [N, 4]; what is alike for all of them is worked out together."""
    for first in range(0, len(masks), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        yield from _paste_some(masks[some], np.asarray(boxes[some], np.float64), height, width)


def _paste_some(
    masks: Sequence[NDArray[np.uint8]], boxes: NDArray[np.float64], height: int, width: int
) -> Iterator[Pasted]:
    # The pixels whose centres lie inside the box: first centre at or after the edge, last centre before the other edge.
    spans = np.ceil(np.clip(boxes - 0.5, 0, [width, height] * 2)).astype(np.int64)
    # What holds along x for every mask, then what holds along y.
    low, high = boxes[:, :2].T.ravel(), boxes[:, 2:].T.ravel()
    first, after = spans[:, :2].T.ravel(), spans[:, 2:].T.ravel()
    cells = np.array([mask.shape[1] for mask in masks] + [mask.shape[0] for mask in masks])
    pixels = np.maximum(after - first, 0)
    ends = np.cumsum(pixels)
    # Pixel centres as indices of cell centres, of the cells between the box's edges.
    centres = np.arange(ends[-1]) + np.repeat(first - (ends - pixels) + 0.5 - low, pixels)
    sizes = np.repeat(high - low, pixels)
    weights = _weights(centres * (np.repeat(cells, pixels) / sizes) - 0.5, np.repeat(cells, pixels))
    each = [weights[end - count : end, :n] for end, count, n in zip(ends, pixels, cells, strict=True)]
    for mask, columns, rows, (left, top) in zip(
        masks, each[: len(masks)], each[len(masks) :], spans[:, :2].tolist(), strict=True
    ):
        if columns.size and rows.size:
            yield _product(rows, mask, columns), left, top
        else:
            yield np.zeros((0, 0), np.uint8), left, top


def column_runs(
    masks: Sequence[NDArray[np.uint8]], boxes: ArrayLike, height: int, width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the runs of the pixels that `paste` would draw of each mask start and end, without drawing them.

    boxes: xyxy [N, 4]. Both are places in as many whole grids as there are masks, one after another, column after
    column: mask * height * width + column * height + row. Runs do not leave their column, and none is empty. Along a
    column the probability is linear between two cells, so each pair of them is asked once where it passes one half;
    pixels at which it is one half up to rounding may be decided otherwise than by `paste`.
    """
    edges = np.asarray(boxes, np.float64).reshape(-1, 4)
    left, top, right, bottom = np.ceil(np.clip(edges - 0.5, 0, (width, height, width, height))).T
    drawn = np.where((right > left) & (bottom > top), right - left, 0).astype(np.int64)
    last = np.cumsum(drawn)
    # One entry for each column of pixels from here on. owner: whose it is.
    owner = np.repeat(np.arange(len(masks)), drawn)
    x = np.arange(owner.size) + (left[owner] - (last - drawn)[owner])
    rows, columns = np.array([mask.shape for mask in masks], np.int64).reshape(-1, 2)[owner].T
    x_min, y_min, x_max, y_max = edges[owner].T
    weights = _weights((x + 0.5 - x_min) * (columns / (x_max - x_min)) - 0.5, columns)
    across = np.zeros((owner.size, rows.max(initial=0)), np.float32)
    for mask, end, count in zip(masks, last.tolist(), drawn.tolist(), strict=True):
        if count:
            part = slice(end - count, end)
            across[part, : mask.shape[0]] = weights[part, : mask.shape[1]] @ mask.T.astype(np.float32)
    # Framed by background, so that the number of edges is even; edge n lies before cell n.
    inside = np.zeros((owner.size, across.shape[1] + 2), np.bool_)
    np.greater_equal(across, HALF + 0.5, out=inside[:, 1:-1])
    column, edge = np.nonzero(inside[:, 1:] != inside[:, :-1])
    cells, low, high, its = rows[column], y_min[column], y_max[column], owner[column]
    before, after = np.maximum(edge - 1, 0), np.minimum(edge, cells - 1)
    value = across[column, before]
    step = across[column, after] - value
    crossing = before + 0.5 + (HALF + 0.5 - value) / np.where(step == 0, np.inf, step)
    row = crossing * ((high - low) / cells) + low - 0.5
    row = np.where(inside[column, edge + 1], np.ceil(row), np.floor(row) + 1)
    row = np.where(edge == 0, top[its], np.where(edge == cells, bottom[its], np.clip(row, top[its], bottom[its])))
    ends = (its * width + x[column].astype(np.int64)) * height + row.astype(np.int64)
    starts, ends = ends[::2], ends[1::2]
    some = starts < ends
    return starts[some], ends[some]


def relative_to(mask: NDArray[np.uint8], box: ArrayLike, part: ArrayLike) -> NDArray[np.uint8]:
    """The mask of `box`, uint8 [h, w], resampled to cover `part` of it: uint8 of the same size, both boxes xyxy."""
    x_min, y_min, x_max, y_max = (float(edge) for edge in np.asarray(box, np.float64))
    left, top, right, bottom = (float(edge) for edge in np.asarray(part, np.float64))
    height, width = mask.shape
    columns = (left + (np.arange(width) + 0.5) * (right - left) / width - x_min) * (width / (x_max - x_min)) - 0.5
    rows = (top + (np.arange(height) + 0.5) * (bottom - top) / height - y_min) * (height / (y_max - y_min)) - 0.5
    return _product(_weights(rows, height), mask, _weights(columns, width))


def _weights(places: NDArray[np.float64], cells: int | NDArray[np.int64]) -> NDArray[np.float32]:
    """How much each cell counts at each place along an axis: linear between the centres of cells.

    places: [N], as indices of cell centres. cells: how many there are, [N] or the same everywhere. Returns float32
    [N, most cells].
    """
    # Beyond the centre of a border cell that cell alone counts.
    within = np.clip(places, 0, np.subtract(cells, 1)).astype(np.float32)
    below = within.astype(np.int64)
    # Two cells count at each place: all others stay 0, and so does a last one that is no cell.
    weights = np.zeros((len(within), np.max(cells, initial=0) + 1), np.float32)
    flat = np.arange(len(within)) * weights.shape[1] + below
    weights.put(flat, 1 - (within - below.astype(np.float32)), mode="clip")
    weights.put(flat + 1, 1 - ((below + 1).astype(np.float32) - within), mode="clip")
    return weights[:, :-1]


def _product(rows: NDArray[np.float32], mask: NDArray[np.uint8], columns: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The mask interpolated at places with these weights, [rows, h] and [columns, w]: uint8 [rows, columns]."""
    return np.asarray(cv2.convertScaleAbs((rows @ mask.astype(np.float32)) @ columns.T), np.uint8)
