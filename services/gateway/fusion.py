"""Panoptic fusion: instances and a class map become one scene in which every pixel belongs to one segment or none.

After Kirillov et al., *Panoptic Segmentation* (CVPR 2019): instances in order of score claim the pixels still free
inside their masks, and one of which too little remains is dropped; then every kind of stuff that is large enough takes
its free pixels from the class map; the rest is void. Free pixels of thing classes stay void.

Beyond the paper, the class map has a say in the masks (`FusionOptions.semantic_weight`). Everything happens on the
class map's grid, and for an instance only under its box; the whole map is passed over a fixed number of times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from perception.codecs import nearest
from perception.masks import HALF, paste_probability
from perception.types import ClassMap, Detections, Instances, Panoptic, Segment

from services.gateway.taxonomy import NO_CATEGORY, Taxonomy

MAX_SEGMENT_ID = 65535
"""Segment ids travel as 16-bit grey PNG."""

FREE = 255
"""Value of a pixel that no instance has claimed yet; masks use it for their pixels too."""

_HISTOGRAM_PIXELS = 1 << 24
"""OpenCV counts in float32, which is exact up to here."""


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
    """Pixels that one instance takes: uint8 [h, w], `FREE` where taken, from column `left` and row `top` of the map."""

    pixels: NDArray[np.uint8]
    left: int
    top: int
    area: int


class Canvas:
    """The map while instances claim its pixels.

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
        table = taxonomy.semantic_table(class_map.labels)
        self.categories = np.asarray(cv2.LUT(class_map.ids, table), np.uint8)
        """uint8 [H, W]: the class map in category ids."""
        self.known = frozenset(table.tolist()) - {NO_CATEGORY}
        """The categories that the semantic model has labels for."""
        self.free = np.full((self.height, self.width), FREE, np.uint8)
        self._confidence = class_map.confidence
        # How much each confidence counts, times 255; rounded down, so that even the largest weight leaves masks of 0
        # and 255 on their side of one half.
        self._weights = np.floor(options.semantic_weight * np.arange(256)).astype(np.uint8)
        self._options = options

    def claim(self, category_id: int, mask: NDArray[np.uint8], box: NDArray[np.floating]) -> Claim | None:
        """Takes the free pixels of a box-relative mask, box in picture pixels; None when too little of it is free."""
        probability, left, top = paste_probability(mask, box * self.scale, self.height, self.width)
        if not probability.size:
            return None
        crop = np.s_[top : top + probability.shape[0], left : left + probability.shape[1]]
        if self._options.semantic_weight and category_id in self.known:
            probability = self._weigh(probability, category_id, crop)
        _, pixels = cv2.threshold(probability, HALF, FREE, cv2.THRESH_BINARY)
        mask_area = cv2.countNonZero(pixels)
        cv2.bitwise_and(pixels, self.free[crop], dst=pixels)
        area = cv2.countNonZero(pixels)
        if not area or area < self._options.overlap_threshold * mask_area:
            return None
        cv2.subtract(self.free[crop], pixels, dst=self.free[crop])
        return Claim(np.asarray(pixels, np.uint8), left, top, area)

    def _weigh(self, probability: NDArray[np.uint8], category_id: int, crop: tuple[slice, slice]) -> NDArray[np.uint8]:
        """Mask probabilities of one instance after the class map had its say, saturated at 0 and 255."""
        categories = self.categories[crop]
        _, weight = cv2.threshold(categories, NO_CATEGORY, float(self._weights[255]), cv2.THRESH_BINARY)
        if self._confidence is not None:
            weight = cv2.min(weight, cv2.LUT(self._confidence[crop], self._weights))
        weighed = cv2.subtract(probability, weight)
        cv2.copyTo(cv2.add(probability, weight), (categories == category_id).view(np.uint8), weighed)
        return np.asarray(weighed, np.uint8)

    def picture_box(self, left: int, top: int, pixels: NDArray[np.uint8]) -> tuple[float, float, float, float]:
        """The smallest box around the non-zero pixels of a crop at (left, top), xyxy in picture pixels."""
        x, y, width, height = cv2.boundingRect(pixels)
        x_min, y_min, x_max, y_max = np.array([left + x, top + y, left + x + width, top + y + height]) / self.scale
        return float(x_min), float(y_min), float(x_max), float(y_max)


def fuse(
    instances: Instances,
    class_map: ClassMap,
    taxonomy: Taxonomy,
    image_size: tuple[int, int],
    options: FusionOptions | None = None,
) -> Panoptic:
    """Fuses instances and a class map into one scene on the class map's grid.

    instances: boxes in picture pixels, in any order. class_map: [H, W], covers the whole picture. image_size: (height,
    width) of the picture. Labels that the taxonomy does not map, instances with a box or score that is not finite, and
    those without a pixel on the map are left out.

    Returns int32 ids [H, W] and segments numbered from 1: things, best score first, then stuff by category id. Boxes
    are in picture pixels, areas in map pixels; the score of stuff is the mean confidence of its pixels, 1 without
    confidence. The order of the input never matters: equal scores are ordered by category, box and mask.

    Raises `ValueError` for a class map or a picture without pixels.
    """
    options = options or FusionOptions()
    canvas = Canvas(class_map, taxonomy, image_size, options)
    segments: list[Segment] = []
    claims: list[Claim] = []
    for index, category_id in order_of_claims(instances, taxonomy, options):
        if len(claims) == options.max_segments:
            break
        claim = canvas.claim(category_id, instances.masks[index], instances.boxes[index])
        if claim is not None:
            claims.append(claim)
            box = canvas.picture_box(claim.left, claim.top, claim.pixels)
            score = float(instances.scores[index])
            segments.append(_segment(taxonomy, len(claims), category_id, score, box, claim.area))
    unclaimed = np.asarray(cv2.bitwise_and(canvas.categories, canvas.free), np.uint8)
    stuff_ids = np.zeros(256, np.int32)
    pixels = np.empty(unclaimed.shape, np.bool_)
    for category_id, area, score in _stuff(unclaimed, class_map.confidence, taxonomy, options):
        if len(segments) == options.max_segments:
            break
        stuff_ids[category_id] = len(segments) + 1
        np.equal(unclaimed, category_id, out=pixels)
        box = canvas.picture_box(0, 0, pixels.view(np.uint8))
        segments.append(_segment(taxonomy, len(segments) + 1, category_id, score, box, area))
    ids = cv2.LUT(unclaimed, stuff_ids)
    for id, claim in enumerate(claims, 1):
        rows, columns = claim.pixels.shape
        target = ids[claim.top : claim.top + rows, claim.left : claim.left + columns]
        cv2.copyTo(np.full((rows, columns), id, np.int32), claim.pixels, target)
    return Panoptic(np.asarray(ids, np.int32), tuple(segments))


def order_of_claims(objects: Detections, taxonomy: Taxonomy, options: FusionOptions) -> list[tuple[int, int]]:
    """Index and category id of every detection or instance that may claim pixels, best score first.

    Those with a low score, a label that the taxonomy does not map, or a score or box that is not finite may not. Ties
    are broken by what the objects are (category, box, mask), never by where they stand in the input.
    """
    keys = {
        index: (-float(objects.scores[index]), taxonomy.instance_ids[label], *objects.boxes[index].tolist())
        for index, label in enumerate(objects.labels)
        if label in taxonomy.instance_ids
        and options.score_threshold <= objects.scores[index] < math.inf
        and np.isfinite(objects.boxes[index]).all()
    }
    tied = Counter(keys.values())

    def key(index: int) -> tuple[tuple[float, ...], tuple[int, ...], bytes]:
        if isinstance(objects, Instances) and tied[keys[index]] > 1:
            return keys[index], objects.masks[index].shape, objects.masks[index].tobytes()
        return keys[index], (), b""

    return [(index, int(keys[index][1])) for index in sorted(keys, key=key)]


def resize(panoptic: Panoptic, height: int, width: int) -> Panoptic:
    """The scene on a map of another size, every pixel taking the id of the nearest one.

    Ids and boxes stay (boxes are in picture pixels), areas are counted again in new map pixels, and segments that no
    pixel is left of are dropped. Raises `ValueError` for a size without pixels.
    """
    if panoptic.ids.shape == (height, width):
        return panoptic
    segments = segments_at(panoptic, height, width)
    ids = cv2.resize(panoptic.ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return Panoptic(np.asarray(ids, np.int32), segments)


def segments_at(panoptic: Panoptic, height: int, width: int) -> tuple[Segment, ...]:
    """The segments of the scene as `resize` gives them."""
    if min(height, width) < 1:
        raise ValueError(f"resize: expected a height and width of at least 1, got {height} x {width}")
    areas = _areas(panoptic.ids, height, width)
    segments = (replace(segment, area=int(areas[segment.id])) for segment in panoptic.segments)
    return tuple(segment for segment in segments if segment.area)


def _areas(ids: NDArray[np.int32], height: int, width: int) -> NDArray[np.int64]:
    """Pixels of every id on a map of another size, int64 [65536], counted by runs of equal neighbours in a row."""
    # How often each row of the map is taken, and how many columns are by the end of each of its own.
    taken_rows = np.bincount(nearest(ids.shape[0], height), minlength=ids.shape[0])
    taken_columns = np.cumsum(np.bincount(nearest(ids.shape[1], width), minlength=ids.shape[1]))
    ends = np.ones(ids.shape, np.bool_)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=ends[:, :-1])
    rows, columns = np.nonzero(ends)
    lengths = np.diff(taken_columns[columns], prepend=0)
    lengths[1:] += width * np.diff(rows)  # from the end of one row to a place in the next
    areas = np.bincount(ids[ends], weights=lengths * taken_rows[rows], minlength=MAX_SEGMENT_ID + 1)
    return areas.astype(np.int64)


def _stuff(
    unclaimed: NDArray[np.uint8], confidence: NDArray[np.uint8] | None, taxonomy: Taxonomy, options: FusionOptions
) -> Iterator[tuple[int, int, float]]:
    """Category id, area and score of the stuff that is large enough, among category ids uint8 [H, W]."""
    minimum = max(options.stuff_minimum_fraction * unclaimed.size, options.stuff_minimum_pixels)
    # How often each category comes with each confidence, [256, 256], or [256, 1] without confidence.
    counts = _histogram([unclaimed] if confidence is None else [unclaimed, confidence]).reshape(256, -1)
    areas = counts.sum(axis=1)
    for category_id, category in enumerate(taxonomy.categories, 1):
        area = int(areas[category_id])
        if not category.is_thing and area >= minimum:
            mean = 255.0 if confidence is None else float(counts[category_id] @ np.arange(256)) / area
            yield category_id, area, mean / 255


def _histogram(maps: list[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """How often each value, or each pair of values, stands in one map, or in two of one shape."""
    axes = len(maps)
    total = np.zeros([256] * axes, np.int64)
    rows = max(1, _HISTOGRAM_PIXELS // maps[0].shape[1])
    for top in range(0, maps[0].shape[0], rows):
        bands = [np.ascontiguousarray(values[top : top + rows]) for values in maps]
        counts = cv2.calcHist(bands, list(range(axes)), None, [256] * axes, [0, 256] * axes)
        total += counts.reshape(total.shape).astype(np.int64)
    return total


def _segment(
    taxonomy: Taxonomy, id: int, category_id: int, score: float, box: tuple[float, float, float, float], area: int
) -> Segment:
    category = taxonomy.category(category_id)
    return Segment(
        id=id,
        category=category.name,
        category_id=category_id,
        is_thing=category.is_thing,
        score=score,
        box=box,
        area=area,
        color=category.color,
    )
