"""Output tensors to instances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from perception import codecs, masks
from perception.convert import box_to_message
from perception.v1 import geometry_pb2, instance_segmentation_pb2

from services.runtime.objects import read_objects
from services.runtime.task_service import Run


def to_instances(
    run: Run, threshold: float, mask_format: geometry_pb2.MaskFormat
) -> list[instance_segmentation_pb2.Instance]:
    """The objects with at least that score, best first, boxes in picture pixels, masks in the form asked for."""
    objects = read_objects(run, threshold)
    found = np.asarray(run.outputs["detection_masks"], np.uint8)[objects.rows]
    instances = [
        instance_segmentation_pb2.Instance(
            box=box_to_message(box.tolist()), score=float(score), class_id=int(class_id), label=label
        )
        for box, score, class_id, label in zip(
            objects.boxes, objects.scores, objects.class_ids, objects.labels, strict=True
        )
    ]
    if mask_format == geometry_pb2.MASK_FORMAT_BOX:
        for instance, mask, whole_box, box in zip(instances, found, objects.whole_boxes, objects.boxes, strict=True):
            instance.box_mask.CopyFrom(_box_mask(mask, whole_box, box))
    else:
        height, width = run.fit.picture_size
        every = codecs.encode_box_masks(list(found), objects.whole_boxes, height, width)
        for instance, counts in zip(instances, every, strict=True):
            instance.rle.height, instance.rle.width, instance.rle.counts = height, width, counts
    return instances


def _box_mask(
    mask: NDArray[np.uint8], whole_box: NDArray[np.float32], box: NDArray[np.float32]
) -> geometry_pb2.BoxMask:
    # The model's mask covers the model's whole box, of which the picture's edge may have cut off a part.
    shown = mask if np.array_equal(whole_box, box) else masks.relative_to(mask, whole_box, box)
    return geometry_pb2.BoxMask(size=len(shown), probabilities=shown.tobytes())
