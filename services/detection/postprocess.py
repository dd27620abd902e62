"""Output tensors to detections."""

from __future__ import annotations

from perception.convert import box_to_message
from perception.v1 import detection_pb2

from services.runtime.objects import read_objects
from services.runtime.task_service import Run


def to_detections(run: Run, threshold: float) -> list[detection_pb2.Detection]:
    """The objects with at least that score, best first, boxes in picture pixels."""
    objects = read_objects(run, threshold)
    return [
        detection_pb2.Detection(box=box_to_message(box), score=score, class_id=class_id, label=label)
        for box, score, class_id, label in zip(
            objects.boxes.tolist(), objects.scores.tolist(), objects.class_ids.tolist(), objects.labels, strict=True
        )
    ]
