"""Regions of a picture to the model's input tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from perception.convert import box_from_message
from perception.v1 import geometry_pb2

from services.runtime.engines import Model
from services.runtime.errors import InvalidInput
from services.runtime.images import Picture
from services.runtime.resize import crop_to_box, fit


def to_tensor(picture: Picture, boxes: Sequence[geometry_pb2.Box], model: Model) -> Picture:
    """One input picture for each box, or for the whole picture where there is none: uint8 [N, H, W, 3].

    Raises `InvalidInput` naming the box that shows no part of the picture.
    """
    regions = [crop_to_box(picture, _checked(box, n, picture)) for n, box in enumerate(boxes)] or [picture]
    return np.stack([fit(region, model.resize, model.input_size)[0] for region in regions])


def _checked(box: geometry_pb2.Box, index: int, picture: Picture) -> tuple[float, float, float, float]:
    height, width = picture.shape[:2]
    x_min, y_min, x_max, y_max = box_from_message(box)
    # Written so that NaN fails too.
    if not (0 <= x_min < x_max <= width and 0 <= y_min < y_max <= height):
        raise InvalidInput(
            f"boxes[{index}]",
            f"is ({x_min:g}, {y_min:g}, {x_max:g}, {y_max:g}): expected a box of some area"
            f" within the picture of {width} x {height} pixels",
        )
    return x_min, y_min, x_max, y_max
