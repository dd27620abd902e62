"""Instances of a frame's panoptic map, and what COCO's evaluation says about predicted ones."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.datasets.sample import mask_box
from models.training.frame_cache import Frames

SMALLEST_AREA = 12
"""Pixels below which what an augmentation left of an instance teaches nothing."""


@dataclass(frozen=True)
class Instances:
    """Things of one picture: boxes float32 [K,4] xyxy in pixels, classes int64 [K], masks bool [K,H,W]."""

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class Detections:
    """Predicted things of one picture; `masks` are COCO run lengths, or None where a model has none.

    Attributes:
        boxes: float32 [K,4] xyxy in pixels of the validation frame.
        scores: float32 [K].
        classes: int64 [K].
        masks: K compressed run-length encodings.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: Sequence[dict[str, Any]] | None = None


def instances_in(
    panoptic: NDArray[np.integer],
    segments: Mapping[int, dict[str, Any]],
    things: Sequence[int],
    smallest_area: int = SMALLEST_AREA,
) -> Instances:
    """Return what a map [H,W] of segment ids shows of its countable segments.

    Args:
        panoptic: segment ids, perhaps flipped, scaled or cropped by an augmentation.
        segments: what is known about each id, as in `Frames.segments`.
        things: train ids of the countable categories; an instance's class is its category's place among them.
        smallest_area: pixels below which a segment is left out.
    """
    class_of = {train_id: index for index, train_id in enumerate(things)}
    boxes, classes, masks = [], [], []
    for identifier in np.unique(panoptic).tolist():
        segment = segments.get(identifier)
        if segment is None or segment["is_crowd"] or segment["category"] not in class_of:
            continue
        mask = panoptic == identifier
        if mask.sum() < smallest_area:
            continue
        boxes.append(mask_box(mask))
        classes.append(class_of[segment["category"]])
        masks.append(mask)
    return Instances(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(masks, bool).reshape(-1, *panoptic.shape),
    )


class CocoValidation:
    """COCO's average precision on a validation split."""

    def __init__(self, frames: Frames) -> None:
        self.labels = [frames.labels[train_id] for train_id in frames.things]
        self.truth = COCO()
        width, height = frames.size
        self.truth.dataset = {
            "images": [{"id": index, "width": width, "height": height} for index in range(len(frames))],
            "categories": [{"id": index, "name": label} for index, label in enumerate(self.labels)],
            "annotations": _annotations(frames),
        }
        with contextlib.redirect_stdout(io.StringIO()):
            self.truth.createIndex()

    def average_precision(self, detections: Sequence[Detections], *, masks: bool) -> dict[str, float]:
        """Return AP averaged over IoU 0.50 to 0.95, AP at 0.50, and each class's AP, of boxes or of masks.

        Args:
            detections: one entry a validation frame, in order.
            masks: whether masks are compared instead of boxes.
        """
        kind = "mask" if masks else "box"
        results = [
            {
                "image_id": image,
                "category_id": int(found.classes[index]),
                "score": float(found.scores[index]),
                **({"segmentation": found.masks[index]} if masks else {"bbox": _xywh(found.boxes[index])}),
            }
            for image, found in enumerate(detections)
            for index in range(len(found.scores))
        ]
        if not results:
            return {f"{kind}_AP": 0.0, f"{kind}_AP50": 0.0}
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self.truth, self.truth.loadRes(results), "segm" if masks else "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        # Precision by [IoU, recall, class, area, detections]; of all areas and up to 100 detections; -1 if absent.
        precision = evaluation.eval["precision"][:, :, :, 0, 2]
        by_class = {
            f"{kind}_AP/{label}": float(precision[:, :, index].mean())
            for index, label in enumerate(self.labels)
            if (precision[:, :, index] >= 0).all()
        }
        return {f"{kind}_AP": float(evaluation.stats[0]), f"{kind}_AP50": float(evaluation.stats[1])} | by_class


def _annotations(frames: Frames) -> list[dict[str, Any]]:
    annotations: list[dict[str, Any]] = []
    class_of = {train_id: index for index, train_id in enumerate(frames.things)}
    for image, (panoptic, segments) in enumerate(zip(frames.panoptic, frames.segments, strict=True)):
        for identifier, segment in segments.items():
            if segment["category"] not in class_of:
                continue
            mask = panoptic == identifier
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": class_of[segment["category"]],
                    "bbox": _xywh(np.array(mask_box(mask))),
                    "area": int(mask.sum()),
                    "iscrowd": int(segment["is_crowd"]),
                    "segmentation": rle.encode(np.asfortranarray(mask)),
                }
            )
    return annotations


def _xywh(box: NDArray[np.floating]) -> list[float]:
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]
