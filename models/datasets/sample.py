"""The one sample type that every reader and the procedural scenes give.

Coordinates are pixels with the origin at the upper left corner of the upper left pixel; boxes are ``(x0, y0, x1, y1)``
where the pixel in column ``c`` covers ``[c, c + 1)``, so a box's width is the number of columns it spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

VOID_ID = 0
"""Panoptic id of pixels that belong to no segment."""

IGNORE_LABEL = 255
"""Semantic train id of pixels that neither training nor evaluation may count."""


class DatasetError(ValueError):
    """A data set on disk, or a sample made from it, is not what its format promises."""


@dataclass(frozen=True, slots=True)
class Category:
    """One category of a data set; its position in ``Dataset.categories`` is its train id."""

    name: str
    is_thing: bool
    colour: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Segment:
    """One panoptic segment: a thing, or all pixels of one stuff category.

    ``box`` is ``(x0, y0, x1, y1)`` in pixels, ``area`` the number of visible pixels. ``track_id`` is the same for one
    object in all frames of a video. A crowd segment covers objects that cannot be told apart; evaluation ignores it.
    """

    id: int
    category: str
    is_thing: bool
    box: tuple[float, float, float, float]
    area: float
    track_id: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    is_crowd: bool = False

    def __post_init__(self) -> None:
        x0, y0, x1, y1 = self.box
        if self.id <= VOID_ID:
            raise DatasetError(f"segment id: expected a positive integer, found {self.id}")
        if not (np.isfinite(self.box).all() and x0 <= x1 and y0 <= y1):
            raise DatasetError(f"segment {self.id}: expected a finite box x0 <= x1, y0 <= y1, found {self.box}")
        if not self.area >= 0:
            raise DatasetError(f"segment {self.id}: expected an area >= 0, found {self.area}")
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle for worker processes of a loader; a mapping proxy cannot be pickled itself."""
        values = (self.id, self.category, self.is_thing, self.box, self.area, self.track_id)
        return Segment, (*values, dict(self.attributes), self.is_crowd)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One picture and what is known to be true about it.

    - ``image``: uint8 [H, W, 3], RGB.
    - ``panoptic``: int32 [H, W] of segment ids, 0 is void; None where the labels are not panoptic.
    - ``segments``: every segment of the picture, in no promised order.
    - ``masks``: bool [H, W] per segment, only where instances may overlap (COCO instances); otherwise a segment's mask
      is ``panoptic == id``.
    - ``semantic``: uint8 [H, W] of train ids, 255 is ignore; None where unknown.
    - ``image_id`` is unique in the data set; ``video`` and ``frame_index`` place a frame in its sequence, which shows
      it ``seconds`` after its beginning; None where unknown.
    """

    image: NDArray[np.uint8]
    file_name: str
    image_id: int
    panoptic: NDArray[np.int32] | None = None
    segments: tuple[Segment, ...] = ()
    semantic: NDArray[np.uint8] | None = None
    masks: tuple[NDArray[np.bool_], ...] | None = None
    video: str | None = None
    frame_index: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        where = f"sample {self.file_name!r}"
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise DatasetError(
                f"{where}: expected an image uint8 [H, W, 3], found {self.image.dtype} {self.image.shape}"
            )
        maps: list[tuple[str, NDArray[Any] | None, type]] = [
            ("panoptic map", self.panoptic, np.int32),
            ("semantic map", self.semantic, np.uint8),
            *(("mask", mask, np.bool_) for mask in self.masks or ()),
        ]
        for name, values, dtype in maps:
            if values is not None and (values.shape != self.image.shape[:2] or values.dtype != dtype):
                expected = f"{np.dtype(dtype)} {self.image.shape[:2]}"
                raise DatasetError(f"{where}: expected a {name} {expected}, found {values.dtype} {values.shape}")
        if self.masks is not None and len(self.masks) != len(self.segments):
            raise DatasetError(f"{where}: expected {len(self.segments)} masks, one a segment, found {len(self.masks)}")
        ids = [segment.id for segment in self.segments]
        if len(set(ids)) != len(ids):
            raise DatasetError(f"{where}: expected unique segment ids, found {sorted(ids)}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def things(self) -> tuple[Segment, ...]:
        """The segments that are countable objects."""
        return tuple(segment for segment in self.segments if segment.is_thing)

    def mask(self, segment: Segment) -> NDArray[np.bool_]:
        """The pixels of one of this sample's segments, bool [H, W]."""
        if self.masks is not None:
            return self.masks[self.segments.index(segment)]
        if self.panoptic is None:
            raise DatasetError(f"sample {self.file_name!r}: expected masks or a panoptic map, found neither")
        return np.equal(self.panoptic, segment.id)

    def check_pixels(self) -> None:
        """Check what costs a pass over all pixels: the panoptic map holds exactly the ids of ``segments``.

        Raises DatasetError naming the ids that are missing on either side.
        """
        if self.panoptic is None:
            return
        found = set(np.unique(self.panoptic).tolist()) - {VOID_ID}
        expected = {segment.id for segment in self.segments}
        if found != expected:
            raise DatasetError(
                f"sample {self.file_name!r}: panoptic map and segments disagree; ids only in the map: "
                f"{sorted(found - expected)}, only among the segments: {sorted(expected - found)}"
            )


class Dataset(Protocol):
    """What training, evaluation and export need to know of a data set."""

    @property
    def name(self) -> str:
        """What reports and caches call the data set."""
        ...

    @property
    def categories(self) -> tuple[Category, ...]:
        """The categories in the order of their train ids."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def mask_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """The tight box ``(x0, y0, x1, y1)`` around a mask bool [H, W]; zeros for an empty one."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return float(x), float(y), float(x + width), float(y + height)
