"""Box-relative masks: resampling them onto a grid of pixels."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

HALF = 127
"""A cell belongs to the object where its probability times 255 is above this."""

_LONGEST_SIDE = 32_000
"""OpenCV's remap takes no longer sides than 32766."""


def paste(mask: NDArray[np.uint8], box: ArrayLike, height: int, width: int) -> tuple[NDArray[np.bool_], int, int]:
    """Draws a box-relative mask onto the pixels of a grid.

    mask: uint8 [h, w], probability times 255, covering `box` exactly. box: xyxy in pixels of the grid, edges anywhere.
    Returns the mask on the pixels under the box as bool [rows, columns] and the column and row of its top left pixel;
    pixels outside the grid are cut off. A pixel belongs to the object when the probability, interpolated bilinearly at
    its centre, is above one half; pixels whose centre lies outside the box do not.
    """
    probability, x, y = paste_probability(mask, box, height, width)
    return probability > HALF, x, y


def paste_probability(
    mask: NDArray[np.uint8], box: ArrayLike, height: int, width: int
) -> tuple[NDArray[np.uint8], int, int]:
    """As `paste`, before the decision: uint8 [rows, columns], probability times 255, 0 outside the box."""
    x_min, y_min, x_max, y_max = (float(edge) for edge in np.asarray(box, np.float64))
    # The pixels whose centres lie inside the box: first centre at or after the edge, last centre before the other edge.
    left, right = _span(x_min, x_max, width)
    top, bottom = _span(y_min, y_max, height)
    if right <= left or bottom <= top:
        return np.zeros((0, 0), np.uint8), left, top
    columns = _cells(left, right, x_min, x_max, mask.shape[1])
    rows = _cells(top, bottom, y_min, y_max, mask.shape[0])
    return _sample(mask, rows, columns), left, top


def relative_to(mask: NDArray[np.uint8], box: ArrayLike, part: ArrayLike) -> NDArray[np.uint8]:
    """The mask of `box`, uint8 [h, w], resampled to cover `part` of it: uint8 of the same size, both boxes xyxy."""
    x_min, y_min, x_max, y_max = (float(edge) for edge in np.asarray(box, np.float64))
    left, top, right, bottom = (float(edge) for edge in np.asarray(part, np.float64))
    height, width = mask.shape
    columns = left + (np.arange(width) + 0.5) * (right - left) / width
    rows = top + (np.arange(height) + 0.5) * (bottom - top) / height
    return _sample(mask, _to_cells(rows, y_min, y_max, height), _to_cells(columns, x_min, x_max, width))


def _sample(mask: NDArray[np.uint8], rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The mask at every pair of these places, in cells: uint8 [rows, columns]."""
    sampled = np.empty((len(rows), len(columns)), np.uint8)
    for top in range(0, len(rows), _LONGEST_SIDE):
        for left in range(0, len(columns), _LONGEST_SIDE):
            tile = slice(top, top + _LONGEST_SIDE), slice(left, left + _LONGEST_SIDE)
            sampled[tile] = _sample_tile(mask, rows[tile[0]], columns[tile[1]])
    return sampled


def _sample_tile(mask: NDArray[np.uint8], rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.uint8]:
    size = (len(rows), len(columns))
    x_map = np.ascontiguousarray(np.broadcast_to(columns, size))
    y_map = np.ascontiguousarray(np.broadcast_to(rows[:, None], size))
    # Pixel centres in the outer half of a border cell take that cell's value.
    return np.asarray(cv2.remap(mask, x_map, y_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    first, after = (math.ceil(min(max(edge - 0.5, 0), limit)) for edge in (low, high))
    return first, after


def _cells(first: int, after: int, low: float, high: float, cells: int) -> NDArray[np.float32]:
    return _to_cells(np.arange(first, after) + 0.5, low, high, cells)


def _to_cells(places: NDArray[np.floating], low: float, high: float, cells: int) -> NDArray[np.float32]:
    """Places along an axis as indices of cell centres, of `cells` cells between `low` and `high`."""
    return ((places - low) * (cells / (high - low)) - 0.5).astype(np.float32)
