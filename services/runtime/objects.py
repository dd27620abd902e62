"""What detection and instance segmentation share: the model's objects as the caller wants them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.runtime.errors import ContractViolation
from services.runtime.task_service import Run


@dataclass(frozen=True)
class Objects:
    """N objects of one picture, best score first.

    rows: int [N], their rows in the output tensors. boxes: float32 [N, 4] xyxy in picture pixels, within the picture;
    whole_boxes: the same before they were cut off at its edges. scores: float32 [N]. class_ids: int32 [N].
    """

    rows: NDArray[np.intp]
    whole_boxes: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int32]
    labels: tuple[str, ...]


def read_objects(run: Run, threshold: float) -> Objects:
    """The objects in the output tensors with at least that score and a box that shows part of the picture.

    Raises `ContractViolation` for outputs that no object can be read from.
    """
    count = int(run.outputs["num_detections"].reshape(-1)[0])
    boxes, scores = run.outputs["detection_boxes"], run.outputs["detection_scores"]
    class_ids = run.outputs["detection_classes"]
    if not 0 <= count <= len(scores) or not len(boxes) == len(scores) == len(class_ids):
        found = f"{len(boxes)} boxes, {len(scores)} scores, {len(class_ids)} classes"
        raise ContractViolation(run.model.name, f"num_detections is {count} for tensors of {found}")
    whole_boxes = run.fit.to_picture(boxes[:count])
    in_picture = run.fit.clip(whole_boxes)
    # A broken row is never kept: comparisons with NaN are false, and no box without end is visible.
    finite = np.isfinite(whole_boxes).all(axis=1) & np.isfinite(scores[:count])
    visible = finite & (in_picture[:, 2] > in_picture[:, 0]) & (in_picture[:, 3] > in_picture[:, 1])
    known = (class_ids[:count] >= 0) & (class_ids[:count] < len(run.model.labels))
    kept = np.flatnonzero((scores[:count] >= threshold) & visible & known)
    rows = kept[np.argsort(-scores[kept], kind="stable")]
    return Objects(
        rows=rows,
        whole_boxes=whole_boxes[rows],
        boxes=in_picture[rows],
        scores=np.asarray(scores[rows], np.float32),
        class_ids=np.asarray(class_ids[rows], np.int32),
        labels=tuple(run.model.labels[class_id] for class_id in class_ids[rows]),
    )
