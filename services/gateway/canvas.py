"""The map on which objects claim pixels: what each would take alone, and what is left of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from perception.masks import HALF, paste_each
from perception.types import ClassMap

from services.gateway.taxonomy import NO_CATEGORY, Taxonomy

MAX_SEGMENT_ID = 65535
"""Segment ids travel as 16-bit grey PNG."""

TAKEN = 255
"""Value of a pixel that belongs to an object's mask, or that an object has claimed."""

_ROUND_DOWN = -0.499
"""What makes rounding to the nearest whole number rounding down."""


@dataclass(frozen=True)
class FusionOptions:
    """How evidence becomes segments. Scores, IoU and fractions are 0..1.

    score_threshold: instances and detections with a lower score are left out.
    overlap_threshold: an instance is dropped when less than this fraction of its mask is still free.
    stuff_minimum_fraction, stuff_minimum_pixels: stuff with less than this fraction of the map, or with fewer pixels
        of it, is void.
    semantic_weight: 0..0.5, how far a certain class map moves the masks' threshold of one half. A pixel is claimed
        where `mask + weight * confidence * agreement > 1/2`; agreement is +1 where the class map names the instance's
        category, -1 where it names another one, and 0 where it names none or has no label for that category. 0 is the
        paper's rule; at 0.5 only pixels that the mask gives 0 or 1 are out of the class map's reach.
    detection_iou_threshold: an instance explains a detection of its category when their boxes' IoU reaches this.
    max_segments: of more segments than this the best things are kept, then stuff by category id; at most 65535.

    Raises `ValueError` for a value outside its range.
    """

    score_threshold: float = 0.5
    overlap_threshold: float = 0.5
    stuff_minimum_fraction: float = 0.002
    stuff_minimum_pixels: int = 16
    semantic_weight: float = 0.25
    detection_iou_threshold: float = 0.5
    max_segments: int = MAX_SEGMENT_ID

    def __post_init__(self) -> None:
        limits = {
            "semantic_weight": (0, 0.5),
            "stuff_minimum_pixels": (1, math.inf),
            "max_segments": (1, MAX_SEGMENT_ID),
        }
        for field in fields(self):
            low, high = limits.get(field.name, (0, 1))
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ValueError(f"FusionOptions.{field.name}: expected {low}..{high}, got {value}")


@dataclass(frozen=True, eq=False)
class Claim:
    """Pixels of one object: uint8 [h, w], `TAKEN` where they are its, from column `left` and row `top` of the map."""

    pixels: NDArray[np.uint8]
    left: int
    top: int
    area: int

    @property
    def crop(self) -> tuple[slice, slice]:
        """Where the pixels lie on the map."""
        return np.s_[self.top : self.top + self.pixels.shape[0], self.left : self.left + self.pixels.shape[1]]


class Canvas:
    """What the class map says of every pixel, and which pixels are taken.

    class_map, taxonomy, options: as in `fuse`. image_size: (height, width) of the picture that the map covers.
    """

    def __init__(
        self, class_map: ClassMap, taxonomy: Taxonomy, image_size: tuple[int, int], options: FusionOptions
    ) -> None:
        if not class_map.ids.size or min(image_size) < 1:
            raise ValueError(
                f"fusion: expected a class map and a picture with pixels, "
                f"got a map {list(class_map.ids.shape)} and a picture {list(image_size)}"
            )
        self.height, self.width = class_map.ids.shape
        self.scale = np.array([self.width / image_size[1], self.height / image_size[0]] * 2)
        """Map pixels per picture pixel, for the four edges of a box."""
        self.table = taxonomy.semantic_table(class_map.labels)
        """uint8 [256]: the category of every value of the class map."""
        self.known = frozenset(self.table.tolist()) - {NO_CATEGORY}
        """The categories that the semantic model has labels for."""
        self.taken = np.zeros((self.height, self.width), np.uint8)
        """uint8 [H, W], `TAKEN` where an object has claimed the pixel."""
        self.taxonomy = taxonomy
        self.options = options
        self.confidence = class_map.confidence
        self._classes = class_map.ids

    @cached_property
    def categories(self) -> NDArray[np.uint8]:
        """uint8 [H, W]: the class map in category ids."""
        return np.asarray(cv2.LUT(self._classes, self.table), np.uint8)

    @property
    def unclaimed(self) -> NDArray[np.uint8]:
        """uint8 [H, W]: the class map where nothing has claimed the pixel, elsewhere `UNLABELLED`."""
        return np.asarray(cv2.bitwise_or(self._classes, self.taken), np.uint8)

    def draw(
        self, masks: Sequence[NDArray[np.uint8]], boxes: NDArray[np.floating], category_ids: Sequence[int]
    ) -> Iterator[Claim]:
        """The pixels that each box-relative mask would take if it were alone; boxes [N, 4] in picture pixels."""
        pasted = paste_each(masks, boxes * self.scale, self.height, self.width)
        for category_id, (probability, left, top) in zip(category_ids, pasted, strict=True):
            if probability.size:
                crop = np.s_[top : top + probability.shape[0], left : left + probability.shape[1]]
                pixels = self._decide(probability, category_id, crop)
                yield Claim(pixels, left, top, cv2.countNonZero(pixels))
            else:
                yield Claim(probability, left, top, 0)

    def claim(self, alone: Claim) -> Claim | None:
        """Takes those of an object's pixels that are free; None when too few of them are."""
        if not alone.area:
            return None
        taken = self.taken[alone.crop]
        pixels = np.asarray(cv2.subtract(alone.pixels, taken), np.uint8)
        area = cv2.countNonZero(pixels)
        if not area or area < self.options.overlap_threshold * alone.area:
            return None
        cv2.bitwise_or(taken, pixels, dst=taken)
        return Claim(pixels, alone.left, alone.top, area)

    def _decide(self, probability: NDArray[np.uint8], category_id: int, crop: tuple[slice, slice]) -> NDArray[np.uint8]:
        """`TAKEN` where the probability, times 255, is high enough: less where the class map agrees, more where not."""
        if self.options.semantic_weight and category_id in self.known:
            weight = self._weight[crop]
            raised = cv2.add(probability, weight)
            probability = np.asarray(cv2.subtract(probability, weight), np.uint8)
            cv2.copyTo(raised, self._named(category_id, crop), probability)
        _, pixels = cv2.threshold(probability, HALF, TAKEN, cv2.THRESH_BINARY)
        return np.asarray(pixels, np.uint8)

    def _named(self, category_id: int, crop: tuple[slice, slice]) -> NDArray[np.uint8]:
        """uint8, not 0 where the class map names a category that it has labels for; `categories` takes longer."""
        classes = self._classes[crop]
        named = np.logical_or.reduce([classes == value for value in np.flatnonzero(self.table == category_id)])
        return np.asarray(named).view(np.uint8)

    @cached_property
    def _weight(self) -> NDArray[np.uint8]:
        """How far the class map moves a probability times 255, uint8 [H, W]; 0 where it names no category."""
        # Rounded down, so that even the largest weight leaves masks of 0 and 255 on their side of one half.
        most = math.floor(self.options.semantic_weight * 255)
        named = np.where(self.table == NO_CATEGORY, 0, most).astype(np.uint8)
        if self.confidence is None:
            return np.asarray(cv2.LUT(self._classes, named), np.uint8)
        weight = cv2.convertScaleAbs(self.confidence, alpha=self.options.semantic_weight, beta=_ROUND_DOWN)
        if not named[: int(self._classes.max()) + 1].all():
            weight = cv2.min(weight, cv2.LUT(self._classes, named))
        return np.asarray(weight, np.uint8)

    def clear(self) -> None:
        """Takes everything back."""
        self.taken[:] = 0

    def picture_box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        """A box xyxy of the map in picture pixels."""
        x, y = float(self.scale[0]), float(self.scale[1])
        return left / x, top / y, right / x, bottom / y
