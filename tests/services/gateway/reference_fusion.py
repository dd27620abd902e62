"""Fusion written down as slowly and plainly as possible: whole-map booleans, one loop an instance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from perception.masks import paste_probability
from perception.types import ClassMap, Instances, Panoptic, Segment

from services.gateway.canvas import FusionOptions
from services.gateway.taxonomy import Taxonomy


def category_map(class_map: ClassMap, taxonomy: Taxonomy) -> NDArray[np.int64]:
    """Category id of every pixel, 0 where the map names none."""
    categories = np.zeros(class_map.ids.shape, np.int64)
    for index, label in enumerate(class_map.labels):
        categories[class_map.ids == index] = taxonomy.semantic_ids.get(label, 0)
    return categories


def claimed(
    instances: Instances, index: int, class_map: ClassMap, taxonomy: Taxonomy, scale: NDArray[np.float64], weight: float
) -> NDArray[np.bool_]:
    """The pixels that one instance would take if it were alone, bool [H, W]."""
    height, width = class_map.ids.shape
    crop, x, y = paste_probability(instances.masks[index], instances.boxes[index] * scale, height, width)
    box = np.zeros((height, width), np.bool_)
    probability = np.zeros((height, width), np.int64)
    box[y : y + crop.shape[0], x : x + crop.shape[1]] = True
    probability[box] = crop.ravel()
    category = taxonomy.instance_ids[instances.labels[index]]
    if weight > 0 and category in {taxonomy.semantic_ids.get(label) for label in class_map.labels}:
        categories = category_map(class_map, taxonomy)
        confidence = np.full(box.shape, 255) if class_map.confidence is None else class_map.confidence
        agreement = np.where(categories == 0, 0, np.where(categories == category, 1, -1))
        probability = probability + agreement * np.floor(weight * confidence).astype(np.int64)
    return box & (probability > 127)


def claimants(instances: Instances, taxonomy: Taxonomy, options: FusionOptions) -> list[int]:
    """Indices of the instances that take part, in the order in which they claim."""
    taking_part = [
        index
        for index in range(len(instances))
        if instances.labels[index] in taxonomy.instance_ids
        and np.isfinite(instances.scores[index])
        and np.isfinite(instances.boxes[index]).all()
        and instances.scores[index] >= options.score_threshold
    ]
    return sorted(
        taking_part,
        key=lambda index: (
            -instances.scores[index],
            taxonomy.instance_ids[instances.labels[index]],
            tuple(instances.boxes[index]),
            instances.masks[index].shape,
            instances.masks[index].tobytes(),
        ),
    )


def reference_fuse(
    instances: Instances,
    class_map: ClassMap,
    taxonomy: Taxonomy,
    image_size: tuple[int, int],
    options: FusionOptions,
) -> Panoptic:
    """What `fuse` must answer, after Kirillov et al., *Panoptic Segmentation* (CVPR 2019)."""
    height, width = class_map.ids.shape
    scale = np.array([width / image_size[1], height / image_size[0]] * 2)
    ids = np.zeros((height, width), np.int32)
    found: list[tuple[int, float]] = []
    for index in claimants(instances, taxonomy, options):
        mask = claimed(instances, index, class_map, taxonomy, scale, options.semantic_weight)
        remaining = mask & (ids == 0)
        if len(found) == options.max_segments or not remaining.any():
            continue
        if remaining.sum() / mask.sum() < options.overlap_threshold:
            continue
        found.append((taxonomy.instance_ids[instances.labels[index]], float(instances.scores[index])))
        ids[remaining] = len(found)

    categories = category_map(class_map, taxonomy)
    free = ids == 0
    for category_id, category in enumerate(taxonomy.categories, 1):
        stuff = free & (categories == category_id)
        large = stuff.sum() >= max(options.stuff_minimum_fraction * stuff.size, options.stuff_minimum_pixels)
        if not category.is_thing and large and len(found) < options.max_segments:
            score = 1.0 if class_map.confidence is None else float(class_map.confidence[stuff].mean()) / 255
            found.append((category_id, score))
            ids[stuff] = len(found)

    segments = []
    for id, (category_id, score) in enumerate(found, 1):
        rows, columns = np.nonzero(ids == id)
        edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / scale
        category = taxonomy.category(category_id)
        segments.append(
            Segment(
                id=id,
                category=category.name,
                category_id=category_id,
                is_thing=category.is_thing,
                score=score,
                box=tuple(edges.tolist()),
                area=len(rows),
                color=category.color,
            )
        )
    return Panoptic(ids, tuple(segments))
