"""Panoptic fusion: instances and a class map become one scene in which every pixel belongs to one segment or none.

After Kirillov et al., *Panoptic Segmentation* (CVPR 2019): instances in order of score claim the pixels still free
inside their masks, and one of which too little remains is dropped; then every kind of stuff that is large enough takes
its free pixels from the class map; the rest is void. Free pixels of thing classes stay void.

Beyond the paper, the class map has a say in the masks (`FusionOptions.semantic_weight`). Everything happens on the
class map's grid: for an instance only under its box, and for stuff by runs of equal pixels, so that the whole map is
passed over a few times however many segments there are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from perception.codecs import nearest
from perception.types import ClassMap, Detections, Instances, Panoptic, Segment

from services.gateway.canvas import MAX_SEGMENT_ID, Canvas, Claim, FusionOptions
from services.gateway.taxonomy import NO_CATEGORY, Taxonomy


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
    canvas = Canvas(class_map, taxonomy, image_size, options or FusionOptions())
    return fuse_things(canvas, things_of(canvas, instances, order_of_claims(instances, taxonomy, canvas.options)))


@dataclass(frozen=True)
class Claimant:
    """A detection or an instance that may claim pixels. rank: the smallest comes first."""

    index: int
    category_id: int
    rank: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Thing:
    """What is known of an object before it claims its pixels. alone: those that it would take if it were alone."""

    rank: tuple[Any, ...]
    category_id: int
    score: float
    alone: Claim


def order_of_claims(objects: Detections, taxonomy: Taxonomy, options: FusionOptions) -> list[Claimant]:
    """Every detection or instance that may claim pixels, best score first.

    Those with a low score, a label that the taxonomy does not map, or a score or box that is not finite may not. Ties
    are broken by what the objects are (category, box, mask), never by where they stand in the input.
    """
    is_finite = np.logical_and.reduce(np.isfinite(objects.boxes), axis=1)
    boxes, scores = objects.boxes.tolist(), objects.scores.tolist()
    keys: dict[int, tuple[Any, ...]] = {
        index: (-scores[index], taxonomy.instance_ids[label], *boxes[index])
        for index, label in enumerate(objects.labels)
        if label in taxonomy.instance_ids and options.score_threshold <= scores[index] < math.inf and is_finite[index]
    }
    tied = Counter(keys.values())

    def claimant(index: int, key: tuple[Any, ...]) -> Claimant:
        mask = objects.masks[index] if isinstance(objects, Instances) and tied[key] > 1 else None
        shape, cells = ((), b"") if mask is None else (mask.shape, mask.tobytes())
        return Claimant(index, key[1], (key, shape, cells))

    return sorted((claimant(index, key) for index, key in keys.items()), key=attrgetter("rank"))


def things_of(canvas: Canvas, instances: Instances, claimants: Sequence[Claimant]) -> list[Thing]:
    """Those of the instances that claim, in the same order."""
    indices = [claimant.index for claimant in claimants]
    category_ids = [claimant.category_id for claimant in claimants]
    drawn = canvas.draw([instances.masks[index] for index in indices], instances.boxes[indices], category_ids)
    scores = instances.scores[indices].tolist()
    return [
        Thing(claimant.rank, claimant.category_id, score, alone)
        for claimant, score, alone in zip(claimants, scores, drawn, strict=True)
    ]


def fuse_things(canvas: Canvas, things: Iterable[Thing]) -> Panoptic:
    """As `fuse`: things claim pixels of an empty canvas in the order in which they come, and stuff the rest."""
    taxonomy, options = canvas.taxonomy, canvas.options
    segments: list[Segment] = []
    claimed = [(thing, claim) for thing in things if (claim := canvas.claim(thing.alone)) is not None]
    kept = claimed[: options.max_segments]
    for thing, claim in kept:
        x, y, width, height = cv2.boundingRect(claim.pixels)
        x, y = x + claim.left, y + claim.top
        box = canvas.picture_box(x, y, x + width, y + height)
        segments.append(_segment(taxonomy, len(segments) + 1, thing.category_id, thing.score, box, claim.area))
    runs = _Runs.of(canvas.unclaimed)
    categories = canvas.table[runs.values]
    ids_of_stuff = np.zeros(256, np.int32)
    surfaces = list(_stuff(canvas, runs, categories))
    for stuff in surfaces[: options.max_segments - len(kept)]:
        ids_of_stuff[stuff.category_id] = len(segments) + 1
        box = canvas.picture_box(*stuff.box)
        segments.append(_segment(taxonomy, len(segments) + 1, stuff.category_id, stuff.score, box, stuff.area))
    ids = np.repeat(ids_of_stuff[categories], runs.lengths).reshape(canvas.height, canvas.width)
    for id, (_, claim) in enumerate(kept, 1):
        cv2.copyTo(np.full(claim.pixels.shape, id, np.int32), claim.pixels, ids[claim.crop])
    return Panoptic.unchecked(ids, tuple(segments), len(claimed) + len(surfaces) - len(segments))


def resize(panoptic: Panoptic, height: int, width: int) -> Panoptic:
    """The scene on a map of another size, every pixel taking the id of the nearest one.

    Ids and boxes stay (boxes are in picture pixels), areas are counted again in new map pixels, and segments that no
    pixel is left of are dropped. Raises `ValueError` for a size without pixels.
    """
    if panoptic.ids.shape == (height, width):
        return panoptic
    segments = segments_at(panoptic, height, width)
    ids = cv2.resize(panoptic.ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return Panoptic.unchecked(np.asarray(ids, np.int32), segments, panoptic.left_out)


def segments_at(panoptic: Panoptic, height: int, width: int) -> tuple[Segment, ...]:
    """The segments of the scene as `resize` gives them."""
    if min(height, width) < 1:
        raise ValueError(f"resize: expected a height and width of at least 1, got {height} x {width}")
    areas = _areas(panoptic.ids, height, width)
    segments = (replace(segment, area=int(areas[segment.id])) for segment in panoptic.segments)
    return tuple(segment for segment in segments if segment.area)


def _areas(ids: NDArray[np.int32], height: int, width: int) -> NDArray[np.int64]:
    """Pixels of every id on a map of another size, int64 [65536], counted by runs of equal neighbours in a row."""
    # How often each row of the map is taken, and how many columns are before each of its own.
    taken_rows = np.bincount(nearest(ids.shape[0], height), minlength=ids.shape[0])
    taken_columns = np.append(0, np.cumsum(np.bincount(nearest(ids.shape[1], width), minlength=ids.shape[1])))
    runs = _Runs.of(ids)
    lengths = taken_columns[runs.starts + runs.lengths] - taken_columns[runs.starts]
    areas = np.bincount(runs.values, weights=lengths * taken_rows[runs.rows], minlength=MAX_SEGMENT_ID + 1)
    return areas.astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Pixels of one value that stand side by side in a row of a map, from its top left to its bottom right.

    rows, starts, lengths: int64 [N], row, first column and pixels of each. values: [N].
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    values: NDArray[Any]

    @classmethod
    def of(cls, values: NDArray[Any]) -> _Runs:
        """The runs of a map [H, W]."""
        flat, width = values.ravel(), values.shape[1]
        is_last = np.ones(flat.shape, np.bool_)
        np.not_equal(flat[1:], flat[:-1], out=is_last[:-1])
        is_last[width - 1 :: width] = True
        last = np.flatnonzero(is_last)
        lengths = np.diff(last, prepend=-1)
        rows, columns = np.divmod(last, width)
        return cls(rows, columns - lengths + 1, lengths, flat[last])


@dataclass(frozen=True)
class _Stuff:
    """All pixels of one kind of stuff: its area and its box xyxy in map pixels, its score 0..1."""

    category_id: int
    area: int
    box: tuple[int, int, int, int]
    score: float


def _stuff(canvas: Canvas, runs: _Runs, categories: NDArray[np.uint8]) -> Iterator[_Stuff]:
    """The stuff that is large enough, by category id. categories: uint8 [N], of each run."""
    options, confidence = canvas.options, canvas.confidence
    # The runs of one category after another; `first` is the place of each category's first one.
    order = np.argsort(categories, kind="stable")
    category_ids, first = np.unique(categories[order], return_index=True)
    last = np.append(first[1:], len(order)) - 1
    areas = np.add.reduceat(runs.lengths[order], first)
    left = np.minimum.reduceat(runs.starts[order], first)
    right = np.maximum.reduceat((runs.starts + runs.lengths)[order], first)
    top, bottom = runs.rows[order[first]], runs.rows[order[last]] + 1
    if confidence is None:
        scores = np.ones(len(areas))
    else:
        sums = np.add.reduceat(confidence.ravel(), runs.rows * canvas.width + runs.starts, dtype=np.uint32)
        scores = np.add.reduceat(sums[order], first, dtype=np.float64) / (255.0 * areas)
    minimum = max(options.stuff_minimum_fraction * canvas.taken.size, options.stuff_minimum_pixels)
    for place, category_id in enumerate(category_ids.tolist()):
        is_stuff = category_id != NO_CATEGORY and not canvas.taxonomy.category(category_id).is_thing
        if is_stuff and areas[place] >= minimum:
            box = int(left[place]), int(top[place]), int(right[place]), int(bottom[place])
            yield _Stuff(category_id, int(areas[place]), box, float(scores[place]))


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
