"""What a caller gets for a frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception import convert, drawing
from perception.convert import ImageLike
from perception.types import ClassMap, Detections, Instances, Panoptic
from perception.v1 import perception_pb2, task_pb2


@dataclass(frozen=True)
class TaskStatus:
    """How one task ended. state: OK, FAILED, DEADLINE_EXCEEDED or SKIPPED. code: canonical gRPC code by name."""

    state: str
    code: str = ""
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether the task's answer is part of the scene."""
        return self.state == "OK"


@dataclass(frozen=True)
class Model:
    """Which model gave an answer."""

    name: str
    version: str
    catalog_entry: str


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame, perceived.

    image_size: (height, width) of the picture as displayed, the frame of all boxes. class_map: None when semantic
    segmentation gave no answer. task_status, models: by task name, such as "detection". timings: seconds by stage,
    "fuse" for the gateway's own and "detection.inference" for a task's. trace_id: 32 hexadecimal digits; empty where
    the frame is not traced.
    """

    request_id: str
    image_size: tuple[int, int]
    panoptic: Panoptic
    detections: Detections
    instances: Instances
    class_map: ClassMap | None
    task_status: dict[str, TaskStatus]
    models: dict[str, Model]
    timings: dict[str, float]
    trace_id: str = ""
    image: ImageLike | None = field(default=None, repr=False)

    @classmethod
    def from_message(cls, message: perception_pb2.PerceiveResponse, image: ImageLike | None = None) -> Scene:
        """The scene of an answer; `image` is what `draw` draws on. Raises `ValueError` for a malformed answer."""
        return cls(
            request_id=message.request_id,
            image_size=(message.image_size.height, message.image_size.width),
            panoptic=convert.panoptic_from_message(message.panoptic),
            detections=convert.detections_from_messages(message.detections),
            instances=convert.instances_from_messages(message.instances),
            class_map=convert.class_map_from_message(message.class_map) if message.HasField("class_map") else None,
            task_status={
                task_name(status.task): TaskStatus(
                    state=_name(task_pb2.TaskState, "TASK_STATE_", status.state),
                    code=status.code,
                    reason=status.reason,
                )
                for status in message.task_status
            },
            models={
                task_name(model.task): Model(model.name, model.version, model.catalog_entry) for model in message.models
            },
            timings={_stage_name(timing): timing.microseconds / 1e6 for timing in message.timings},
            trace_id=message.trace_id,
            image=image,
        )

    def draw(self, path: str | Path | None = None) -> NDArray[np.uint8]:
        """The picture with the scene drawn over it, RGB uint8 [H, W, 3]; written to `path` where one is given.

        Raises `ValueError` when the picture cannot be decoded or `path` has no known image suffix.
        """
        picture = drawing.read_picture(self.image, self.image_size)
        overlay = drawing.draw_panoptic(picture, self.panoptic)
        if path is not None:
            drawing.write_picture(overlay, path)
        return overlay


def task_name(task: task_pb2.Task) -> str:
    """A task's name in lower snake case, such as "instance_segmentation"."""
    return _name(task_pb2.Task, "TASK_", task).lower()


def _stage_name(timing: task_pb2.StageTiming) -> str:
    stage = _name(task_pb2.Stage, "STAGE_", timing.stage).lower()
    return stage if timing.task == task_pb2.TASK_UNSPECIFIED else f"{task_name(timing.task)}.{stage}"


def _name(enumeration: Any, prefix: str, value: int) -> str:
    # A newer gateway may know more values than this client; they are shown as numbers.
    known = enumeration.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix(prefix) if known else str(value)
