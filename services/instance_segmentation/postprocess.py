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
    instances = []
    for index, row in enumerate(objects.rows):
        mask = np.asarray(run.outputs["detection_masks"][row], np.uint8)
        box, whole_box = objects.boxes[index], objects.whole_boxes[index]
        instance = instance_segmentation_pb2.Instance(
            box=box_to_message(box.tolist()),
            score=float(objects.scores[index]),
            class_id=int(objects.class_ids[index]),
            label=objects.labels[index],
        )
        if mask_format == geometry_pb2.MASK_FORMAT_BOX:
            instance.box_mask.CopyFrom(_box_mask(mask, whole_box, box))
        else:
            instance.rle.CopyFrom(_rle(mask, whole_box, run.fit.picture_size))
        instances.append(instance)
    return instances


def _box_mask(
    mask: NDArray[np.uint8], whole_box: NDArray[np.float32], box: NDArray[np.float32]
) -> geometry_pb2.BoxMask:
    # The model's mask covers the model's whole box, of which the picture's edge may have cut off a part.
    shown = mask if np.array_equal(whole_box, box) else masks.relative_to(mask, whole_box, box)
    return geometry_pb2.BoxMask(size=len(shown), probabilities=shown.tobytes())


def _rle(
    mask: NDArray[np.uint8], whole_box: NDArray[np.float32], picture_size: tuple[int, int]
) -> geometry_pb2.RleMask:
    height, width = picture_size
    counts = codecs.encode_box_mask(mask, whole_box, height, width)
    return geometry_pb2.RleMask(height=height, width=width, counts=counts)
