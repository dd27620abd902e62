"""Fitting a picture to a model's input, and bringing the model's boxes back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.runtime.engines import ResizeRule
from services.runtime.images import Picture


@dataclass(frozen=True)
class Fit:
    """Where a picture lies in a model's input.

    picture_size, input_size: (height, width) in pixels. content: (top, left, height, width) of the resized picture in
    the input, in input pixels; everything else is padding.
    """

    picture_size: tuple[int, int]
    input_size: tuple[int, int]
    content: tuple[int, int, int, int]

    def to_picture(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes xyxy float32 [N, 4] in input pixels as boxes in picture pixels; they may reach beyond the picture."""
        top, left, height, width = self.content
        picture_height, picture_width = self.picture_size
        scale = np.array([picture_width / width, picture_height / height] * 2, np.float32)
        return (boxes - np.array([left, top] * 2, np.float32)) * scale

    def clip(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes xyxy float32 [N, 4] in picture pixels, cut off at the picture's edges."""
        height, width = self.picture_size
        return np.clip(boxes, np.float32(0), np.array([width, height] * 2, np.float32))

    def crop(self, maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of a map [h, w] over the input that shows the picture, without the padding."""
        top, left, height, width = self.content
        rows, columns = maps.shape[0] / self.input_size[0], maps.shape[1] / self.input_size[1]
        first_row, first_column = round(top * rows), round(left * columns)
        last_row = max(first_row + 1, round((top + height) * rows))
        last_column = max(first_column + 1, round((left + width) * columns))
        return maps[first_row:last_row, first_column:last_column]


def fit(picture: Picture, rule: ResizeRule, input_size: tuple[int, int]) -> tuple[Picture, Fit]:
    """The model's input, RGB uint8 [H, W, 3], and where the picture lies in it.

    input_size: (height, width) of the model's input; (-1, -1) for a `shortest_edge` rule, whose size follows from the
    picture.
    """
    height, width = picture.shape[:2]
    match rule.kind:
        case "stretch":
            resized = _resize(picture, input_size)
            return resized, Fit((height, width), input_size, (0, 0, *input_size))
        case "shortest_edge":
            scale = min(rule.shortest_edge / min(height, width), rule.longest_edge / max(height, width))
            size = (_scaled(height, scale), _scaled(width, scale))
            return _resize(picture, size), Fit((height, width), size, (0, 0, *size))
        case "letterbox":
            scale = min(input_size[0] / height, input_size[1] / width)
            size = (min(_scaled(height, scale), input_size[0]), min(_scaled(width, scale), input_size[1]))
            top, left = (input_size[0] - size[0]) // 2, (input_size[1] - size[1]) // 2
            padded = np.full((*input_size, 3), rule.pad_value, np.uint8)
            padded[top : top + size[0], left : left + size[1]] = _resize(picture, size)
            return padded, Fit((height, width), input_size, (top, left, *size))


def crop_to_box(picture: Picture, box: tuple[float, float, float, float]) -> Picture:
    """The whole pixels of a picture that a box xyxy touches; at least one of them."""
    height, width = picture.shape[:2]
    left, top = min(int(box[0]), width - 1), min(int(box[1]), height - 1)
    right, bottom = max(left + 1, int(np.ceil(box[2]))), max(top + 1, int(np.ceil(box[3])))
    return picture[top : min(bottom, height), left : min(right, width)]


def _scaled(side: int, scale: float) -> int:
    return max(1, round(side * scale))


def _resize(picture: Picture, size: tuple[int, int]) -> Picture:
    if picture.shape[:2] == size:
        return picture
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.uint8)
