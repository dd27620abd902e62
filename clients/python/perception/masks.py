"""Box-relative masks: resampling them onto a grid of pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

HALF = 127
"""A cell belongs to the object where its probability times 255 is above this."""


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
    x_map = np.broadcast_to(columns, (bottom - top, right - left))
    y_map = np.broadcast_to(rows[:, None], (bottom - top, right - left))
    resampled = cv2.remap(
        mask,
        np.ascontiguousarray(x_map),
        np.ascontiguousarray(y_map),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(resampled, np.uint8), left, top


def _span(low: float, high: float, limit: int) -> tuple[int, int]:
    first = int(np.clip(np.ceil(low - 0.5), 0, limit))
    after = int(np.clip(np.ceil(high - 0.5), 0, limit))
    return first, after


def _cells(first: int, after: int, low: float, high: float, cells: int) -> NDArray[np.float32]:
    centres = np.arange(first, after, dtype=np.float64) + 0.5
    return ((centres - low) * (cells / (high - low)) - 0.5).astype(np.float32)
