"""One frame: fan out to the tasks, fuse what they answer, put the answer together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message
from perception import convert
from perception.types import ClassMap, Detections, Instances, Panoptic
from perception.v1 import (
    classification_pb2,
    detection_pb2,
    geometry_pb2,
    image_pb2,
    instance_segmentation_pb2,
    perception_pb2,
    semantic_segmentation_pb2,
    task_pb2,
)

from services.gateway import answer
from services.gateway.attributes import labels_needed, regions_to_classify, with_attributes
from services.gateway.canvas import FusionOptions
from services.gateway.pictures import Picture, Pictures
from services.gateway.settings import GatewaySettings
from services.gateway.tasks import TASKS, Outcome, TaskClient, had_no_time, late, skipped
from services.gateway.taxonomy import Taxonomy
from services.gateway.unexplained import fuse_all
from services.runtime import logs, metrics, tracing
from services.runtime.engines import Priority
from services.runtime.errors import DeadlineExceeded, InvalidInput, NoTaskAnswered, Overloaded, ServiceError
from services.runtime.task_service import check_enumeration, score_threshold
from services.runtime.timing import Deadline, StageClock

Result = TypeVar("Result")

_RETRY_AFTER_SECONDS = 0.2
_LONGEST_SIDE_WITHOUT_CLASS_MAP = 1024
"""Pixels of the fusion grid's longer side where no semantic model gives a grid."""


@dataclass(frozen=True)
class _Frame:
    """A frame to perceive. skipped: the tasks that are not run, and why."""

    picture: Picture
    deadline: Deadline
    priority: Priority
    skipped: Mapping[task_pb2.Task, str]


class Perceiver:
    """Perceives frames with the tasks of a running system."""

    def __init__(
        self, settings: GatewaySettings, taxonomy: Taxonomy, tasks: Mapping[task_pb2.Task, TaskClient]
    ) -> None:
        self._settings = settings
        self._taxonomy = taxonomy
        self._tasks = tasks
        self._executor = ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="worker")
        self._pictures = Pictures(settings, self._executor)

    @property
    def tasks(self) -> Set[task_pb2.Task]:
        """The tasks that the system has."""
        return self._tasks.keys()

    async def perceive(
        self,
        request: perception_pb2.PerceiveRequest,
        deadline: Deadline,
        priority: Priority = Priority.NORMAL,
        left_out: Set[task_pb2.Task] = frozenset(),
    ) -> perception_pb2.PerceiveResponse:
        """The scene of one frame.

        priority: how urgent the frame is for the tasks. left_out: tasks that are not run even if they are wanted, to
        keep the deadline. Raises `InvalidInput` and `LimitExceeded` for the caller's faults, `NoTaskAnswered` or
        `DeadlineExceeded` when no task answered.
        """
        clock = StageClock(task_pb2.TASK_UNSPECIFIED)
        skipped_tasks = self._skipped(request, left_out)
        threshold = score_threshold(request, self._settings.score_threshold)
        for name in ("panoptic_format", "resolution", "mask_format"):
            check_enumeration(request, name)
        async with self._pictures.taken(request.image, clock) as picture:
            image_size = picture.size
            frame = _Frame(picture, deadline, priority, skipped_tasks)
            outcomes = await self._fan_out(frame, threshold)
            _require_an_answer(outcomes)
            with clock.stage(task_pb2.STAGE_FUSE):
                panoptic, class_map = await self._in_thread(lambda: self._fuse(outcomes, image_size, threshold))
            panoptic, outcomes[task_pb2.TASK_CLASSIFICATION] = await self._classify(frame, panoptic)
        with clock.stage(task_pb2.STAGE_ENCODE):
            response = await self._in_thread(lambda: self._answer(request, image_size, panoptic, class_map, outcomes))
        response.request_id = logs.request_id.get()
        response.trace_id = tracing.tracer.trace_id()
        response.timings.extend(clock.timings())
        metrics.SEGMENTS.observe(len(panoptic.segments))
        if len(panoptic.segments) == self._settings.max_segments:
            metrics.LIMIT_BREACHES.labels("max_segments").inc()
        return response

    def _skipped(
        self, request: perception_pb2.PerceiveRequest, left_out: Set[task_pb2.Task]
    ) -> dict[task_pb2.Task, str]:
        """The tasks that are not run, and why. Raises `InvalidInput` for a task that this system does not have."""
        for index, task in enumerate(request.tasks):
            if task not in self._tasks:
                known = ", ".join(task_pb2.Task.Name(known) for known in self._tasks)
                raise InvalidInput(f"tasks[{index}]", f"is {_name(task)}: this system has {known}")
        reasons: dict[task_pb2.Task, str] = {}
        for task in TASKS:
            if task not in self._tasks:
                reasons[task] = "not part of this system"
            elif request.tasks and task not in request.tasks:
                reasons[task] = "not asked for"
            elif task in left_out:
                reasons[task] = "left out to keep the deadline"
        return reasons

    async def _fan_out(self, frame: _Frame, threshold: float) -> dict[task_pb2.Task, Outcome[Any]]:
        requests: dict[task_pb2.Task, Message] = {
            task_pb2.TASK_DETECTION: detection_pb2.DetectRequest(score_threshold=threshold),
            task_pb2.TASK_INSTANCE_SEGMENTATION: instance_segmentation_pb2.SegmentInstancesRequest(
                score_threshold=threshold, mask_format=geometry_pb2.MASK_FORMAT_BOX
            ),
            task_pb2.TASK_SEMANTIC_SEGMENTATION: semantic_segmentation_pb2.SegmentSemanticsRequest(
                resolution=geometry_pb2.RESOLUTION_MODEL, include_confidence=True
            ),
        }
        seconds = frame.deadline.remaining("fan-out") * self._settings.task_deadline_share
        outcomes = {task: skipped(task, frame.skipped[task]) for task in requests if task in frame.skipped}
        running = [task for task in requests if task not in frame.skipped]
        try:
            # A picture that one task cannot take is not worth the others' time: the first error ends all calls.
            async with asyncio.TaskGroup() as group:
                calls = {
                    task: group.create_task(
                        self._tasks[task].call(frame.picture, requests[task], seconds, frame.priority)
                    )
                    for task in running
                }
        except* ServiceError as faults:
            raise faults.exceptions[0] from None
        return outcomes | {task: call.result() for task, call in calls.items()}

    def _fuse(
        self, outcomes: Mapping[task_pb2.Task, Outcome[Any]], image_size: tuple[int, int], threshold: float
    ) -> tuple[Panoptic, ClassMap]:
        """The scene, and the class map whose grid it is on."""
        detections, instances, class_map = _domain(outcomes, image_size)
        panoptic = fuse_all(
            detections,
            instances,
            class_map,
            self._taxonomy,
            image_size,
            FusionOptions(score_threshold=threshold, max_segments=self._settings.max_segments),
            guess_shapes=outcomes[task_pb2.TASK_INSTANCE_SEGMENTATION].answer is None,
        )
        return panoptic, class_map

    async def _classify(self, frame: _Frame, panoptic: Panoptic) -> tuple[Panoptic, Outcome[Any]]:
        """Attributes for the segments that the taxonomy wants described, in one call for all of them."""
        task = task_pb2.TASK_CLASSIFICATION
        if task in frame.skipped:
            return panoptic, skipped(task, frame.skipped[task])
        regions = regions_to_classify(panoptic, self._taxonomy)
        if not regions:
            return panoptic, skipped(task, "the scene has no segment to classify")
        request = classification_pb2.ClassifyRequest(
            boxes=[convert.box_to_message(segment.box) for segment in regions],
            top_k=labels_needed(self._taxonomy),
        )
        try:
            seconds = frame.deadline.remaining("classification") * self._settings.classification_deadline_share
        except DeadlineExceeded:
            return panoptic, late(task, "the other tasks and fusion left no time for it")
        outcome = await self._tasks[task].call(frame.picture, request, seconds, frame.priority)
        if outcome.answer is None:
            return panoptic, outcome
        return with_attributes(panoptic, regions, outcome.answer.classifications, self._taxonomy), outcome

    def _answer(
        self,
        request: perception_pb2.PerceiveRequest,
        image_size: tuple[int, int],
        panoptic: Panoptic,
        class_map: ClassMap,
        outcomes: Mapping[task_pb2.Task, Outcome[Any]],
    ) -> perception_pb2.PerceiveResponse:
        at_frame = request.resolution != geometry_pb2.RESOLUTION_MODEL
        return perception_pb2.PerceiveResponse(
            image_size=image_pb2.ImageSize(height=image_size[0], width=image_size[1]),
            panoptic=answer.panoptic_message(
                panoptic, request.panoptic_format, image_size if at_frame else class_map.ids.shape
            ),
            detections=answer.detections(outcomes[task_pb2.TASK_DETECTION].answer),
            instances=answer.instances(
                outcomes[task_pb2.TASK_INSTANCE_SEGMENTATION].answer, request.mask_format, image_size
            ),
            class_map=answer.class_map(
                outcomes[task_pb2.TASK_SEMANTIC_SEGMENTATION].answer, class_map, image_size if at_frame else None
            ),
            task_status=[outcomes[task].status for task in TASKS],
            models=[found.model for task in TASKS if (found := outcomes[task].answer) is not None],
            timings=[timing for task in TASKS for timing in outcomes[task].timings],
        )

    async def _in_thread(self, function: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def close(self) -> None:
        """Gives back the threads and the shared memory."""
        self._pictures.close()
        self._executor.shutdown(wait=False, cancel_futures=True)


def _name(task: int) -> str:
    known = task_pb2.Task.DESCRIPTOR.values_by_number.get(task)
    return known.name if known else str(task)


def _require_an_answer(outcomes: Mapping[task_pb2.Task, Outcome[Any]]) -> None:
    if any(outcome.answer is not None for outcome in outcomes.values()):
        return
    failed = [outcome.status for outcome in outcomes.values() if outcome.status.state != task_pb2.TASK_STATE_SKIPPED]
    if failed and all(status.state == task_pb2.TASK_STATE_DEADLINE_EXCEEDED for status in failed):
        raise DeadlineExceeded("fan-out: no task answered in time")
    if failed and all(had_no_time(status) for status in failed):
        # Not unavailable, which a caller's channel would try again at once.
        raise Overloaded("no task has room for the frame", _RETRY_AFTER_SECONDS)
    if failed:
        raise NoTaskAnswered({task_pb2.Task.Name(status.task): status.reason for status in failed})


def _domain(
    outcomes: Mapping[task_pb2.Task, Outcome[Any]], image_size: tuple[int, int]
) -> tuple[Detections, Instances, ClassMap]:
    """What the tasks found; what a task did not give is empty."""
    found = outcomes[task_pb2.TASK_DETECTION].answer
    segmented = outcomes[task_pb2.TASK_INSTANCE_SEGMENTATION].answer
    labelled = outcomes[task_pb2.TASK_SEMANTIC_SEGMENTATION].answer
    return (
        convert.detections_from_messages(found.detections) if found else Detections.empty(),
        convert.instances_from_messages(segmented.instances) if segmented else Instances.empty(),
        convert.class_map_from_message(labelled.class_map) if labelled else ClassMap.empty(*_grid(image_size)),
    )


def _grid(image_size: Sequence[int]) -> tuple[int, int]:
    scale = min(1.0, _LONGEST_SIDE_WITHOUT_CLASS_MAP / max(image_size))
    return max(1, round(image_size[0] * scale)), max(1, round(image_size[1] * scale))
