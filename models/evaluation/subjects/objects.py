"""Detection and instance segmentation, judged by COCO's average precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from perception.caller import Caller
from perception.codecs import rle_area
from perception.convert import box_from_message, image_to_message
from perception.v1 import (
    detection_pb2,
    detection_pb2_grpc,
    geometry_pb2,
    instance_segmentation_pb2,
    instance_segmentation_pb2_grpc,
)
from pycocotools import mask as coco_mask

from models.datasets.sample import Dataset, Sample
from models.evaluation.average_precision import (
    FRAME_SCORE_THRESHOLD,
    AveragePrecision,
    AveragePrecisionResult,
    CocoObject,
    Kind,
)
from models.evaluation.overlays import Picture, draw_objects
from models.evaluation.result import Findings
from models.evaluation.subjects.connection import TaskConnection
from models.evaluation.subjects.subject import Subject

SCORE_THRESHOLD = 0.001
"""Average precision needs the whole ranking, down to objects that nobody would draw."""

Objects = list[CocoObject]


class _ObjectSubject(Subject[Objects]):
    """What both tasks share. kinds: by what objects are compared."""

    kinds: tuple[Kind, ...]

    def __init__(self, task: str, address: str, dataset: Dataset, caller: Caller) -> None:
        self._connection = TaskConnection(task, address, caller)
        self._things = [category for category in dataset.categories if category.is_thing]
        self._colours = {category.name: category.colour for category in dataset.categories}
        known = set(self._connection.model.labels)
        self._labels = [category.name for category in self._things if category.name in known]
        self._precision = AveragePrecision(self._labels)

    @property
    def model(self) -> str:
        """Catalogue entry of the model."""
        return self._connection.model.info.catalog_entry

    def add(self, sample: Sample, answer: Objects) -> None:
        """Compare an answer with the sample's things."""
        self._precision.add(sample.image_id, _truth(sample, with_masks="mask" in self.kinds), answer)

    def findings(self) -> Findings:
        """mAP, mAP50 and mAP75 of boxes, and of masks where there are any; over the categories that the model knows."""
        results = {kind: self._precision.result(kind) for kind in self.kinds}
        return Findings(
            metrics={name: value for result in results.values() for name, value in result.metrics.items()},
            by_category=_by_category(results),
            # Of two ways to judge a picture the last, by masks, is the stricter.
            frame_scores=results[self.kinds[-1]].frame_scores,
            curves=tuple(result.curve for result in results.values()),
            notes=(
                f"{len(self._labels)} of the data set's {len(self._things)} kinds of things are known to the model",
            ),
        )

    def draw(self, sample: Sample, answer: Objects) -> tuple[Picture, Picture]:
        """Boxes, and masks where there are any; of the answer those that a user would be shown."""
        truth = _truth(sample, with_masks="mask" in self.kinds)
        shown = [each for each in answer if each.score >= FRAME_SCORE_THRESHOLD]
        return (draw_objects(sample.image, truth, self._colours), draw_objects(sample.image, shown, self._colours))


class DetectionSubject(_ObjectSubject):
    """The detection service at `address`."""

    kinds = ("box",)

    def __init__(self, address: str, dataset: Dataset, caller: Caller) -> None:
        super().__init__("detection", address, dataset, caller)
        self._stub = detection_pb2_grpc.DetectionServiceStub(self._connection.channel)

    def ask(self, sample: Sample) -> Objects:
        """Detect, with a threshold near 0."""
        image = image_to_message(sample.image)
        request = detection_pb2.DetectRequest(image=image, score_threshold=SCORE_THRESHOLD)
        response = self._connection.call(self._stub.Detect, request)
        return [_found_box(each) for each in response.detections]


class InstanceSegmentationSubject(_ObjectSubject):
    """The instance segmentation service at `address`."""

    kinds = ("box", "mask")

    def __init__(self, address: str, dataset: Dataset, caller: Caller) -> None:
        super().__init__("instance_segmentation", address, dataset, caller)
        self._stub = instance_segmentation_pb2_grpc.InstanceSegmentationServiceStub(self._connection.channel)

    def ask(self, sample: Sample) -> Objects:
        """Segment, with a threshold near 0 and masks over the whole picture."""
        request = instance_segmentation_pb2.SegmentInstancesRequest(
            image=image_to_message(sample.image),
            score_threshold=SCORE_THRESHOLD,
            mask_format=geometry_pb2.MASK_FORMAT_RLE,
        )
        response = self._connection.call(self._stub.SegmentInstances, request)
        return [_found_mask(each) for each in response.instances]


def _found_box(message: detection_pb2.Detection) -> CocoObject:
    x0, y0, x1, y1 = box_from_message(message.box)
    return CocoObject(message.label, (x0, y0, x1, y1), area=(x1 - x0) * (y1 - y0), score=message.score)


def _found_mask(message: instance_segmentation_pb2.Instance) -> CocoObject:
    return CocoObject(
        label=message.label,
        box=box_from_message(message.box),
        area=rle_area(message.rle.counts),
        score=message.score,
        counts=message.rle.counts,
        size=(message.rle.height, message.rle.width),
    )


def _truth(sample: Sample, with_masks: bool) -> Objects:
    return [
        CocoObject(
            label=segment.category,
            box=segment.box,
            area=segment.area,
            is_crowd=segment.is_crowd,
            counts=_run_lengths(sample.mask(segment)) if with_masks else None,
            size=(sample.image.shape[0], sample.image.shape[1]),
        )
        for segment in sample.things
    ]


def _run_lengths(mask: NDArray[np.bool_]) -> bytes:
    counts: bytes = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return counts


def _by_category(results: dict[Kind, AveragePrecisionResult]) -> dict[str, dict[str, float]]:
    labels = {label: None for result in results.values() for label in result.by_label}
    return {label: {f"{kind}_AP": result.by_label[label] for kind, result in results.items()} for label in labels}
