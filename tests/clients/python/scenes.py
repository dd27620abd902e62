"""An answer of a gateway, made by hand."""

from __future__ import annotations

import numpy as np
from perception import codecs
from perception.v1 import geometry_pb2, image_pb2, perception_pb2, task_pb2

HEIGHT, WIDTH = 6, 8
IDS = np.zeros((HEIGHT, WIDTH), np.int32)
IDS[1:3, 2:5] = 300  # a car; an id that needs the second byte
IDS[4:] = 2  # road


def response() -> perception_pb2.PerceiveResponse:
    """A scene of a car on a road; classification was down."""
    size = image_pb2.ImageSize(height=HEIGHT, width=WIDTH)
    car_box = geometry_pb2.Box(x_min=2, y_min=1, x_max=5, y_max=3)
    answer = perception_pb2.PerceiveResponse(
        request_id="frame-7",
        image_size=size,
        panoptic=perception_pb2.Panoptic(size=size, png=codecs.encode_panoptic_png(IDS)),
        task_status=[
            task_pb2.TaskStatus(task=task_pb2.TASK_DETECTION, state=task_pb2.TASK_STATE_OK),
            task_pb2.TaskStatus(
                task=task_pb2.TASK_CLASSIFICATION,
                state=task_pb2.TASK_STATE_FAILED,
                code="UNAVAILABLE",
                reason="connection refused",
            ),
        ],
        models=[
            task_pb2.ModelInfo(
                task=task_pb2.TASK_DETECTION, name="detection", version="3", catalog_entry="yolov8n_coco"
            )
        ],
        timings=[
            task_pb2.StageTiming(stage=task_pb2.STAGE_FUSE, microseconds=1500),
            task_pb2.StageTiming(task=task_pb2.TASK_DETECTION, stage=task_pb2.STAGE_INFERENCE, microseconds=20_000),
        ],
    )
    answer.panoptic.segments.add(
        id=300,
        category="car",
        category_id=1,
        is_thing=True,
        score=0.75,
        box=car_box,
        area=6,
        color=0xFF8000,
        attributes=[perception_pb2.Attribute(name="colour", value="red", score=0.5)],
    )
    answer.panoptic.segments.add(
        id=2,
        category="road",
        category_id=2,
        score=1.0,
        box=geometry_pb2.Box(x_max=8, y_min=4, y_max=6),
        area=16,
        color=0x404040,
    )
    answer.detections.add(box=car_box, score=0.75, class_id=2, label="car")
    answer.instances.add(
        box=car_box, score=0.7, class_id=2, label="car", box_mask=geometry_pb2.BoxMask(size=1, probabilities=b"\xff")
    )
    ids = np.full((3, 4), 255, np.uint8)
    ids[2] = 0
    answer.class_map.png = codecs.encode_png(ids)
    answer.class_map.size.CopyFrom(image_pb2.ImageSize(height=3, width=4))
    answer.class_map.labels.append("road")
    return answer
