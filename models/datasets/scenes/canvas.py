"""Paint and truth in one stroke: every primitive goes into the picture and into the map of segment ids.

Both are drawn by the same rasteriser call without anti-aliasing, so the truth is exact to the pixel. Later painting
covers earlier painting, as in the picture.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.scenes.categories import CATEGORIES, TRAIN_IDS

SHIFT = 4
"""Fractional bits of the coordinates handed to OpenCV: 1/16 of a pixel."""

FIRST_THING_ID = len(CATEGORIES) + 1
"""Stuff has the segment id train id + 1; a thing has ``FIRST_THING_ID + track id``."""

HALF_CIRCLE = np.array([(np.cos(angle), np.sin(angle)) for angle in np.linspace(-np.pi / 2, np.pi / 2, 7)])
"""The rounded end of a limb that points along x, [7, 2]."""

COORDINATE_LIMIT = 16_000.0

Colour = tuple[float, float, float]


def stuff_id(name: str) -> int:
    """The segment id of all pixels of a stuff category."""
    return TRAIN_IDS[name] + 1


def thing_id(track_id: int) -> int:
    """The segment id of the thing with this track id."""
    return FIRST_THING_ID + track_id


def to_fixed(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Pixel coordinates [..., 2] as OpenCV's fixed-point integers."""
    limited = np.minimum(np.maximum(points, -COORDINATE_LIMIT), COORDINATE_LIMIT)
    return np.asarray(np.rint(limited * (1 << SHIFT)), np.int32)


class Canvas:
    """A picture uint8 [H, W, 3] RGB and its segment ids uint16 [H, W], painted back to front."""

    def __init__(self, background: NDArray[np.uint8], ids: NDArray[np.uint16] | int) -> None:
        """Start from a copy of a finished background; ``ids`` are its segment ids, or the one of all its pixels."""
        self.image = background.copy()
        self.ids = np.full(background.shape[:2], ids, np.uint16)

    def convex(self, fixed: NDArray[np.int32], colour: Colour, segment_id: int) -> None:
        """Fill a convex polygon of fixed-point vertices int32 [N, 2]."""
        cv2.fillConvexPoly(self.image, fixed, colour, cv2.LINE_8, SHIFT)
        cv2.fillConvexPoly(self.ids, fixed, segment_id, cv2.LINE_8, SHIFT)

    def polygons(self, fixed: list[NDArray[np.int32]], colour: Colour, segment_id: int) -> None:
        """Fill polygons of any shape; where they overlap each other, even-odd."""
        cv2.fillPoly(self.image, fixed, colour, cv2.LINE_8, SHIFT)
        cv2.fillPoly(self.ids, fixed, segment_id, cv2.LINE_8, SHIFT)

    def line(self, fixed: NDArray[np.int32], thickness: float, colour: Colour, segment_id: int) -> None:
        """An open polyline through the vertices, ``thickness`` pixels wide and at least one."""
        pixels = max(1, round(thickness))
        cv2.polylines(self.image, [fixed], False, colour, pixels, cv2.LINE_8, SHIFT)
        cv2.polylines(self.ids, [fixed], False, segment_id, pixels, cv2.LINE_8, SHIFT)

    def capsules(
        self,
        start: NDArray[np.floating],
        end: NDArray[np.floating],
        radii: NDArray[np.floating],
        colours: list[Colour],
        segment_id: int,
    ) -> None:
        """Rounded limbs from ``start`` [N, 2] to ``end`` [N, 2] with ``radii`` [N, 2] in pixels at both ends."""
        along = end - start
        length = np.hypot(along[:, 0], along[:, 1])[:, None]
        ahead = np.where(length > 0, along / np.maximum(length, 1e-12), np.array([1.0, 0.0]))[:, None]
        aside = ahead[..., ::-1] * np.array([-1.0, 1.0])
        round_end = ahead * HALF_CIRCLE[:, :1] + aside * HALF_CIRCLE[:, 1:]
        outlines = (
            end[:, None] + radii[:, 1, None, None] * round_end,
            start[:, None] - radii[:, 0, None, None] * round_end,
        )
        for outline, colour in zip(to_fixed(np.concatenate(outlines, axis=1)), colours, strict=True):
            self.convex(outline, colour, segment_id)
