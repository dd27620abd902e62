"""COCO's average precision of boxes and masks (Lin et al., ECCV 2014), computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Kind = Literal["box", "mask"]

MAX_DETECTIONS = 100
FRAME_SCORE_THRESHOLD = 0.25
"""Objects with a lower score do not count when a single picture is judged by its F1 score."""

_IOU_50, _IOU_75 = 0, 5
_ALL_AREAS = 0


@dataclass(frozen=True, eq=False)
class CocoObject:
    """An object of the truth or of a prediction.

    label: its category. box: xyxy in pixels. area: pixels of its mask, or of its box where there is no mask. counts,
    size: its mask as COCO's compressed run lengths over a picture of (height, width), None where there is none.
    """

    label: str
    box: tuple[float, float, float, float]
    area: float
    score: float = 1.0
    is_crowd: bool = False
    counts: bytes | None = None
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision at the recall levels 0, 0.01, ... 1, each float64 [101], averaged over categories.

    by_iou: at an IoU threshold of 0.50 and 0.75, and averaged over 0.50 to 0.95.
    """

    kind: Kind
    by_iou: dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class AveragePrecisionResult:
    """metrics: `box_mAP` over IoU 0.50 to 0.95, `box_mAP50` and `box_mAP75`, or the same of masks.

    by_label: AP over IoU 0.50 to 0.95 of each category that the truth has.
    frame_scores: by image id, the F1 score of its objects at IoU 0.50; 1 for an empty picture without false alarms.
    """

    metrics: dict[str, float]
    by_label: dict[str, float]
    curve: PrecisionRecall
    frame_scores: dict[int, float]


class AveragePrecision:
    """Collects the objects of many pictures. Objects with a label outside `labels` are left out on both sides."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._ids = {label: index + 1 for index, label in enumerate(labels)}
        self._images: list[int] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def add(self, image_id: int, truth: Sequence[CocoObject], found: Sequence[CocoObject]) -> None:
        """Add one picture. The run lengths of all masks must be over the same picture."""
        self._images.append(image_id)
        for collected, objects in ((self._truth, truth), (self._found, found)):
            for each in objects:
                if each.label in self._ids:
                    # pycocotools takes a match with id 0 for none, so ids count from 1.
                    collected.append(self._annotation(len(collected) + 1, image_id, each))

    def result(self, kind: Kind) -> AveragePrecisionResult:
        """Compare what was added, by boxes or by masks; AP is averaged over IoU 0.50, 0.55, ... 0.95."""
        evaluation = COCOeval(self._coco(self._truth), self._coco(self._found), "segm" if kind == "mask" else "bbox")
        evaluation.params.imgIds = sorted(self._images)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()
        # [IoU, recall, category], over all areas and up to a hundred objects; -1 for a category that the truth lacks.
        precision = evaluation.eval["precision"][..., _ALL_AREAS, -1]
        occurring = (precision[0, 0] > -1).nonzero()[0]
        of_truth = precision[:, :, occurring] if occurring.size else np.full((*precision.shape[:2], 1), np.nan)
        labels = list(self._ids)
        return AveragePrecisionResult(
            metrics={
                f"{kind}_mAP": float(of_truth.mean()),
                f"{kind}_mAP50": float(of_truth[_IOU_50].mean()),
                f"{kind}_mAP75": float(of_truth[_IOU_75].mean()),
            },
            by_label={labels[index]: float(precision[:, :, index].mean()) for index in occurring},
            curve=PrecisionRecall(
                kind=kind,
                by_iou={
                    "IoU 0.50": of_truth[_IOU_50].mean(axis=1),
                    "IoU 0.75": of_truth[_IOU_75].mean(axis=1),
                    "IoU 0.50:0.95": of_truth.mean(axis=(0, 2)),
                },
            ),
            frame_scores=self._frame_scores(evaluation),
        )

    def _annotation(self, number: int, image_id: int, each: CocoObject) -> dict[str, Any]:
        x0, y0, x1, y1 = each.box
        annotation = {
            "id": number,
            "image_id": image_id,
            "category_id": self._ids[each.label],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": each.area,
            "score": each.score,
            "iscrowd": int(each.is_crowd),
        }
        if each.counts is not None:
            annotation["segmentation"] = {"size": list(each.size), "counts": each.counts}
        return annotation

    def _coco(self, annotations: list[dict[str, Any]]) -> COCO:
        coco = COCO()
        coco.dataset = {
            # pycocotools asks for a size, and uses it for polygons alone: run lengths bring their own.
            "images": [{"id": image_id, "height": 0, "width": 0} for image_id in self._images],
            "categories": [{"id": number, "name": label} for label, number in self._ids.items()],
            "annotations": [dict(annotation) for annotation in annotations],
        }
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco

    def _frame_scores(self, evaluation: COCOeval) -> dict[int, float]:
        counts: dict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros(3, np.int64))
        for compared in evaluation.evalImgs:
            if compared is None or compared["aRng"] != evaluation.params.areaRng[_ALL_AREAS]:
                continue
            scores = np.array(compared["dtScores"])
            counting = (scores >= FRAME_SCORE_THRESHOLD) & ~compared["dtIgnore"][_IOU_50].astype(bool)
            hits = np.count_nonzero((compared["dtMatches"][_IOU_50] > 0) & counting)
            true = np.count_nonzero(np.asarray(compared["gtIgnore"]) == 0)
            counts[compared["image_id"]] += (hits, np.count_nonzero(counting), true)
        return {
            image_id: float(2 * hits / (found + true)) if found + true else 1.0
            for image_id in self._images
            for hits, found, true in [counts[image_id]]
        }
