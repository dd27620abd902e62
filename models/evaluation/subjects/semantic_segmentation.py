"""Semantic segmentation, judged by mean IoU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from perception.caller import Caller
from perception.convert import class_map_from_message, image_to_message
from perception.v1 import geometry_pb2, semantic_segmentation_pb2, semantic_segmentation_pb2_grpc

from models.datasets.sample import IGNORE_LABEL, Dataset, DatasetError, Sample
from models.evaluation.confusion import Confusion
from models.evaluation.overlays import Picture, draw_classes
from models.evaluation.result import Findings
from models.evaluation.subjects.connection import TaskConnection
from models.evaluation.subjects.subject import Subject

ClassIds = NDArray[np.uint8]
"""uint8 [H, W]: position of the class among the data set's categories, their number for none of them."""


class SemanticSegmentationSubject(Subject[ClassIds]):
    """The semantic segmentation service at `address`; its labels are matched to the data set's categories by name."""

    def __init__(self, address: str, dataset: Dataset, caller: Caller) -> None:
        self._connection = TaskConnection("semantic_segmentation", address, caller)
        self._stub = semantic_segmentation_pb2_grpc.SemanticSegmentationServiceStub(self._connection.channel)
        self._categories = dataset.categories
        names = [category.name for category in dataset.categories]
        labels = list(self._connection.model.labels)
        # Labels that are no category of the data set, and pixels without a label, are a class of their own.
        self._to_category = np.full(256, len(names), np.uint8)
        self._to_category[: len(labels)] = [names.index(label) if label in names else len(names) for label in labels]
        self._known = len(set(names) & set(labels))
        self._confusion = Confusion.empty(names)
        self._frame_scores: dict[int, float] = {}

    @property
    def model(self) -> str:
        """Catalogue entry of the model."""
        return self._connection.model.info.catalog_entry

    def ask(self, sample: Sample) -> ClassIds:
        """Segment on the picture's own grid."""
        request = semantic_segmentation_pb2.SegmentSemanticsRequest(
            image=image_to_message(sample.image), resolution=geometry_pb2.RESOLUTION_FRAME
        )
        response = self._connection.call(self._stub.SegmentSemantics, request)
        return self._to_category[class_map_from_message(response.class_map).ids]

    def add(self, sample: Sample, answer: ClassIds) -> None:
        """Count pixels."""
        of_frame = Confusion.of(self._confusion.labels, _truth(sample), answer)
        self._confusion += of_frame
        self._frame_scores[sample.image_id] = of_frame.mean_iou() if of_frame.total else 1.0

    def findings(self) -> Findings:
        """Mean IoU over the classes that occur in the truth, and pixel accuracy."""
        return Findings(
            metrics={"mIoU": self._confusion.mean_iou(), "pixel_accuracy": self._confusion.accuracy()},
            by_category={label: {"IoU": value} for label, value in self._confusion.iou().items()},
            frame_scores=self._frame_scores,
            confusion=self._confusion.occurring(),
            notes=(f"{self._known} of the data set's {len(self._categories)} classes are known to the model",),
        )

    def draw(self, sample: Sample, answer: ClassIds) -> tuple[Picture, Picture]:
        """Class maps in the data set's colours; what does not count stays bare."""
        truth = _truth(sample)
        return (
            draw_classes(sample.image, truth, self._categories),
            draw_classes(sample.image, np.where(truth == IGNORE_LABEL, IGNORE_LABEL, answer), self._categories),
        )


def _truth(sample: Sample) -> ClassIds:
    if sample.semantic is None:
        raise DatasetError(f"sample {sample.file_name!r}: expected a semantic map, found none")
    return sample.semantic
