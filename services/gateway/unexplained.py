"""Detections that no instance mask explains become things, so that the scene degrades and does not fail.

This is what stands in for instance segmentation when it is late, down, or missed an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

import cv2
import numpy as np
from numpy.typing import NDArray
from perception.types import ClassMap, Detections, Instances, Panoptic

from services.gateway.canvas import TAKEN, Canvas, Claim, FusionOptions
from services.gateway.fusion import Claimant, Thing, fuse_things, order_of_claims, things_of
from services.gateway.taxonomy import Taxonomy

_ELLIPSE_CELLS = 64


def fuse_all(
    detections: Detections,
    instances: Instances,
    class_map: ClassMap,
    taxonomy: Taxonomy,
    image_size: tuple[int, int],
    options: FusionOptions | None = None,
    *,
    guess_shapes: bool = True,
) -> Panoptic:
    """`fuse` of the instances and, among them, one more thing for every detection that none of them explains.

    Arguments as in `fuse`. An instance explains a detection when both pass the score threshold, the taxonomy gives them
    the same category and their boxes' IoU reaches `detection_iou_threshold`. The mask of an unexplained detection is
    what the class map gives to its category inside its box, or, where the semantic model has no label for the category,
    the ellipse inscribed in the box: objects rarely fill the corners of their boxes. `guess_shapes` says whether such a
    guess is wanted: where an instance model looked and saw nothing, it is wrong more often than right. Pixels that an
    instance or a better detection claims are left out of the mask, and a detection of which too little remains
    (`overlap_threshold`) adds nothing.

    Raises `ValueError` for a class map or a picture without pixels.
    """
    canvas = Canvas(class_map, taxonomy, image_size, options or FusionOptions())
    claimants = order_of_claims(instances, taxonomy, canvas.options)
    things = things_of(canvas, instances, claimants)
    unexplained = [
        claimant
        for claimant in order_of_claims(detections, taxonomy, canvas.options)
        if (guess_shapes or claimant.category_id in canvas.known)
        and not _is_explained(claimant, detections, instances, claimants, canvas.options.detection_iou_threshold)
    ]
    if unexplained:
        for thing in things:
            canvas.claim(thing.alone)
        things += _things_of_detections(canvas, detections, unexplained)
        things.sort(key=attrgetter("rank"))
        canvas.clear()
    return fuse_things(canvas, things)


def _things_of_detections(canvas: Canvas, detections: Detections, claimants: Sequence[Claimant]) -> Iterator[Thing]:
    """Those of the detections that find enough free pixels, with these pixels."""
    for claimant in claimants:
        claim = canvas.claim(_alone(canvas, claimant.category_id, detections.boxes[claimant.index]))
        if claim is not None:
            yield Thing(claimant.rank, claimant.category_id, float(detections.scores[claimant.index]), claim)


def _is_explained(
    detection: Claimant,
    detections: Detections,
    instances: Instances,
    claimants: Sequence[Claimant],
    iou_threshold: float,
) -> bool:
    """Whether the box of an instance of its category overlaps the detection's enough."""
    box = detections.boxes[detection.index]
    by = instances.boxes[[claimant.index for claimant in claimants if claimant.category_id == detection.category_id]]
    corners = np.concatenate([np.maximum(box[:2], by[:, :2]), np.minimum(box[2:], by[:, 2:])], axis=1)
    intersection = _area(corners)
    union = _area(box[None]) + _area(by) - intersection
    return bool(np.any(intersection >= np.maximum(iou_threshold * union, np.finfo(np.float64).tiny)))


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])


def _alone(canvas: Canvas, category_id: int, box: NDArray[np.float32]) -> Claim:
    """The pixels that a detection would take if it were alone."""
    if category_id not in canvas.known:
        return next(canvas.draw([_ellipse()], box[None], [category_id]))
    # The pixels whose centres lie in the box.
    edges = np.ceil(box * canvas.scale - 0.5).clip(0, [canvas.width, canvas.height] * 2)
    left, top, right, bottom = edges.astype(int).tolist()
    if left >= right or top >= bottom:
        return Claim(np.zeros((0, 0), np.uint8), left, top, 0)
    inside = canvas.categories[top:bottom, left:right] == category_id
    pixels = inside.astype(np.uint8) * np.uint8(TAKEN)
    return Claim(pixels, left, top, cv2.countNonZero(pixels))


def _ellipse() -> NDArray[np.uint8]:
    offsets = (np.arange(_ELLIPSE_CELLS) + 0.5) / _ELLIPSE_CELLS - 0.5
    return np.where(offsets**2 + offsets[:, None] ** 2 <= 0.25, TAKEN, 0).astype(np.uint8)
