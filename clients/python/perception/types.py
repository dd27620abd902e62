"""What a scene is made of: frozen values that cannot be built inconsistent.

Boxes are xyxy in pixels of the picture as displayed, origin at the top left corner of the top left pixel. Every class
checks its arrays when it is built and raises `ValueError` with the shape it expected and the one it got.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from perception import masks as box_masks

UNLABELLED = 255
"""Value of a class map where the model names no class."""


def _require(what: str, condition: bool, expected: str, actual: object) -> None:
    if not condition:
        raise ValueError(f"{what}: expected {expected}, got {actual}")


def _describe(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {list(array.shape)}"


@dataclass(frozen=True, eq=False)
class Detections:
    """N objects found in a picture, best score first.

    boxes: float32 [N, 4], xyxy in picture pixels. scores: float32 [N] in 0..1. class_ids: int32 [N], indices into the
    model's labels. labels: N strings, the label of each object.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.labels)
        for name, dtype, shape in (
            ("boxes", np.float32, (count, 4)),
            ("scores", np.float32, (count,)),
            ("class_ids", np.int32, (count,)),
        ):
            array = getattr(self, name)
            _require(
                f"{type(self).__name__}.{name}",
                isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == shape,
                f"{np.dtype(dtype)} {list(shape)} for {count} labels",
                _describe(np.asarray(array)),
            )

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def empty(cls) -> Self:
        """No object at all."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            class_ids=np.zeros(0, np.int32),
            labels=(),
        )


@dataclass(frozen=True, eq=False)
class Instances(Detections):
    """N objects with their masks, best score first.

    masks: N arrays, uint8 [h, w] each: the probability, times 255, that a cell of the object's box belongs to it; the
    grid covers the box exactly and may be of any size (28 x 28 for Mask R-CNN).
    """

    masks: tuple[NDArray[np.uint8], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _require("Instances.masks", len(self.masks) == len(self), f"{len(self)} masks", len(self.masks))
        for mask in self.masks:
            _require(
                "Instances.masks",
                mask.dtype == np.uint8 and mask.ndim == 2 and mask.size > 0,
                "uint8 [h, w] with at least one cell",
                _describe(mask),
            )

    def mask(self, index: int, height: int, width: int) -> NDArray[np.bool_]:
        """The mask of one object over a picture of that size, bool [height, width]."""
        picture = np.zeros((height, width), np.bool_)
        crop, x, y = box_masks.paste(self.masks[index], self.boxes[index], height, width)
        picture[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return picture


@dataclass(frozen=True, eq=False)
class ClassMap:
    """A class for every pixel of a map that covers the whole picture.

    ids: uint8 [H, W], index into labels, or `UNLABELLED`. labels: the semantic model's labels in its own order.
    confidence: uint8 [H, W], probability of the class times 255, or None where the model gives none.
    """

    ids: NDArray[np.uint8]
    labels: tuple[str, ...]
    confidence: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        _require("ClassMap.ids", self.ids.dtype == np.uint8 and self.ids.ndim == 2, "uint8 [H, W]", _describe(self.ids))
        _require("ClassMap.labels", len(self.labels) <= UNLABELLED, f"at most {UNLABELLED} labels", len(self.labels))
        if self.confidence is not None:
            _require(
                "ClassMap.confidence",
                self.confidence.dtype == np.uint8 and self.confidence.shape == self.ids.shape,
                f"uint8 {list(self.ids.shape)}",
                _describe(self.confidence),
            )

    @classmethod
    def empty(cls, height: int, width: int) -> Self:
        """A map that names no class anywhere."""
        return cls(ids=np.full((height, width), UNLABELLED, np.uint8), labels=())


@dataclass(frozen=True)
class Attribute:
    """Something that classification found about a segment, with its probability 0..1."""

    name: str
    value: str
    score: float


@dataclass(frozen=True)
class Track:
    """The identity of a thing over the frames of a stream.

    id: from 1, the same for the same thing within one camera and one epoch. frames: in which it was seen, this one
    included. age: seconds since it was first seen. velocity: of its box's centre, in pixels of the picture per second,
    to the right and downwards.
    """

    id: int
    frames: int
    age: float
    velocity: tuple[float, float]


@dataclass(frozen=True)
class Segment:
    """One object or one kind of surface of a scene.

    box: xyxy in picture pixels, the smallest around the segment's pixels. area: pixels of the panoptic map. color:
    (red, green, blue), 0..255, of its category. track: who it is over the frames of a stream that tracks; None where
    that is not known.
    """

    id: int
    category: str
    category_id: int
    is_thing: bool
    score: float
    box: tuple[float, float, float, float]
    area: int
    attributes: tuple[Attribute, ...] = ()
    color: tuple[int, int, int] = (255, 255, 255)
    track: Track | None = None


@dataclass(frozen=True, eq=False)
class Panoptic:
    """A scene: every pixel belongs to one segment or to none.

    ids: int32 [H, W], 0 where nothing claims the pixel. segments: things first, best score first, then stuff. The ids
    in the map and in the segments are the same set. left_out: segments that were found besides and are more than a
    scene may have.
    """

    ids: NDArray[np.int32]
    segments: tuple[Segment, ...]
    left_out: int = 0

    def __post_init__(self) -> None:
        _require("Panoptic.ids", self.ids.dtype == np.int32 and self.ids.ndim == 2, "int32 [H, W]", _describe(self.ids))
        of_segments = sorted(segment.id for segment in self.segments)
        of_map = sorted(_values(self.ids) - {0})
        _require("Panoptic.segments", of_segments == of_map, f"the map's ids {of_map}", of_segments)

    @classmethod
    def unchecked(cls, ids: NDArray[np.int32], segments: tuple[Segment, ...], left_out: int) -> Self:
        """A scene of a map and segments that were made together: to look at every pixel again costs a fifth of that."""
        scene = cls.__new__(cls)
        object.__setattr__(scene, "ids", ids)
        object.__setattr__(scene, "segments", segments)
        object.__setattr__(scene, "left_out", left_out)
        return scene

    @classmethod
    def empty(cls, height: int, width: int) -> Self:
        """A scene in which nothing was found."""
        return cls(ids=np.zeros((height, width), np.int32), segments=())

    def with_segments(self, segments: Iterable[Segment]) -> Self:
        """The same map with more, or other, said of its segments.

        Raises `ValueError` where these are not the segments of the same ids in the same order.
        """
        others = tuple(segments)
        expected, found = ([segment.id for segment in each] for each in (self.segments, others))
        _require("Panoptic.segments", found == expected, f"the ids {expected}", found)
        return self.unchecked(self.ids, others, self.left_out)


def _values(ids: NDArray[np.int32]) -> set[int]:
    flat = ids.ravel()
    # Neighbours mostly share an id: the last pixel of every run tells all, several times faster than counting pixels.
    ends = np.append(flat[np.flatnonzero(flat[1:] != flat[:-1])], flat[-1:])
    if ends.size and (ends.min() < 0 or ends.max() > 65535):
        raise ValueError(f"Panoptic.ids: expected values 0..65535, got {ids.min()}..{ids.max()}")
    return set(np.flatnonzero(np.bincount(ends, minlength=1)).tolist())


def labels_of(class_ids: Sequence[int] | NDArray[np.int32], labels: Sequence[str]) -> tuple[str, ...]:
    """The label of each class id. Raises `ValueError` for an id that no label stands for."""
    for class_id in class_ids:
        _require("class id", 0 <= class_id < len(labels), f"below {len(labels)}", class_id)
    return tuple(labels[class_id] for class_id in class_ids)
