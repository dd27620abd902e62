"""Detections that no instance mask explains become instances, so that the scene degrades and does not fail.

This is what stands in for instance segmentation when it is late, down, or missed an object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from perception.types import ClassMap, Detections, Instances

from services.gateway.fusion import FREE, Canvas, FusionOptions, order_of_claims
from services.gateway.taxonomy import Taxonomy

_ELLIPSE_CELLS = 64


def instances_from_detections(
    detections: Detections,
    instances: Instances,
    class_map: ClassMap,
    taxonomy: Taxonomy,
    image_size: tuple[int, int],
    options: FusionOptions | None = None,
    *,
    guess_shapes: bool = True,
) -> Instances:
    """The instances and, among them, one more for every detection that none of them explains; best score first.

    Arguments as in `fuse`. An instance explains a detection when both pass the score threshold, the taxonomy gives them
    the same category and their boxes' IoU reaches `detection_iou_threshold`. The mask of an unexplained detection is
    what the class map gives to its category inside its box, or, where the semantic model has no label for the category,
    the ellipse inscribed in the box: objects rarely fill the corners of their boxes. `guess_shapes` says whether such a
    guess is wanted: where an instance model looked and saw nothing, it is wrong more often than right. Pixels that an
    instance or a better detection claims are left out of the mask, and a detection of which too little remains
    (`overlap_threshold`) adds nothing. New instances keep the detection's score, label and class id; their boxes are
    cut to the map's pixels.

    Raises `ValueError` for a class map or a picture without pixels.
    """
    options = options or FusionOptions()
    claimants = order_of_claims(instances, taxonomy, options)
    candidates = [
        (index, category_id)
        for index, category_id in order_of_claims(detections, taxonomy, options)
        if not _explained(
            detections.boxes[index],
            instances.boxes[[claimant for claimant, category in claimants if category == category_id]],
            options.detection_iou_threshold,
        )
    ]
    if not candidates:
        return instances
    canvas = Canvas(class_map, taxonomy, image_size, options)
    if not guess_shapes:
        candidates = [(index, category_id) for index, category_id in candidates if category_id in canvas.known]
    for index, category_id in claimants:
        canvas.claim(category_id, instances.masks[index], instances.boxes[index])
    found, boxes, masks = [], [], []
    for index, category_id in candidates:
        mask, box = _mask(canvas, category_id, detections.boxes[index])
        claim = canvas.claim(category_id, mask, box)
        if claim is not None:
            rows, columns = claim.pixels.shape
            found.append(index)
            masks.append(claim.pixels)
            boxes.append(np.array([claim.left, claim.top, claim.left + columns, claim.top + rows]) / canvas.scale)
    return _merge(instances, detections, found, boxes, masks)


def _explained(box: NDArray[np.float32], by: NDArray[np.float32], iou_threshold: float) -> bool:
    """Whether one of some boxes, float32 [N, 4], overlaps a box enough."""
    corners = np.concatenate([np.maximum(box[:2], by[:, :2]), np.minimum(box[2:], by[:, 2:])], axis=1)
    intersection = _area(corners)
    union = _area(box[None]) + _area(by) - intersection
    return bool(np.any(intersection >= np.maximum(iou_threshold * union, np.finfo(np.float64).tiny)))


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def _mask(canvas: Canvas, category_id: int, box: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """A box-relative mask for a detection, and the box that it covers, in picture pixels."""
    if category_id not in canvas.known:
        return _ellipse(), box
    # The pixels whose centres lie in the box, so that the mask has one cell a pixel.
    edges = np.ceil(box * canvas.scale - 0.5).clip(0, [canvas.width, canvas.height] * 2)
    left, top, right, bottom = edges.astype(int).tolist()
    if left >= right or top >= bottom:
        return np.zeros((1, 1), np.uint8), box
    inside = canvas.categories[top:bottom, left:right] == category_id
    return inside.astype(np.uint8) * np.uint8(FREE), edges / canvas.scale


def _ellipse() -> NDArray[np.uint8]:
    offsets = (np.arange(_ELLIPSE_CELLS) + 0.5) / _ELLIPSE_CELLS - 0.5
    return np.where(offsets**2 + offsets[:, None] ** 2 <= 0.25, FREE, 0).astype(np.uint8)


def _merge(
    instances: Instances,
    detections: Detections,
    found: list[int],
    boxes: list[NDArray[np.float64]],
    masks: list[NDArray[np.uint8]],
) -> Instances:
    scores = np.concatenate([instances.scores, detections.scores[found]])
    order = np.argsort(-scores, kind="stable")
    all_boxes = np.concatenate([instances.boxes, np.asarray(boxes, np.float32).reshape(-1, 4)])
    class_ids = np.concatenate([instances.class_ids, detections.class_ids[found]])
    labels = instances.labels + tuple(detections.labels[index] for index in found)
    all_masks = instances.masks + tuple(masks)
    return Instances(
        boxes=all_boxes[order],
        scores=scores[order],
        class_ids=class_ids[order],
        labels=tuple(labels[index] for index in order),
        masks=tuple(all_masks[index] for index in order),
    )
