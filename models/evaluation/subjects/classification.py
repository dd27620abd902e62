"""Classification of regions, judged by top-k accuracy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from perception.caller import Caller
from perception.convert import box_to_message, image_to_message
from perception.v1 import classification_pb2, classification_pb2_grpc

from models.datasets.sample import Dataset, Sample, Segment
from models.evaluation.average_precision import CocoObject
from models.evaluation.confusion import Confusion, top_k_accuracy
from models.evaluation.overlays import Picture, draw_objects
from models.evaluation.result import Findings
from models.evaluation.subjects.connection import TaskConnection
from models.evaluation.subjects.subject import Subject

TOP_K = 5

Ranking = list[list[str]]
"""For every region of a picture the likeliest labels, best first."""


class ClassificationSubject(Subject[Ranking]):
    """The classification service at `address`, asked about the true boxes of objects whose attribute it knows."""

    def __init__(self, address: str, dataset: Dataset, caller: Caller) -> None:
        self._connection = TaskConnection("classification", address, caller)
        self._stub = classification_pb2_grpc.ClassificationServiceStub(self._connection.channel)
        self._labels = tuple(self._connection.model.labels)
        self._dataset = dataset.name
        self._ranked: Ranking = []
        self._truth: list[str] = []
        self._categories: list[str] = []
        self._frame_scores: dict[int, float] = {}

    @property
    def model(self) -> str:
        """Catalogue entry of the model."""
        return self._connection.model.info.catalog_entry

    def ask(self, sample: Sample) -> Ranking:
        """Classify all regions in one call; none where the picture has no region to classify."""
        regions = self._regions(sample)
        if not regions:
            return []
        request = classification_pb2.ClassifyRequest(
            image=image_to_message(sample.image),
            boxes=[box_to_message(segment.box) for segment, _ in regions],
            top_k=min(TOP_K, len(self._labels)),
        )
        response = self._connection.call(self._stub.Classify, request)
        return [[each.label for each in found.classes] for found in response.classifications]

    def add(self, sample: Sample, answer: Ranking) -> None:
        """Collect regions."""
        regions = self._regions(sample)
        self._ranked += answer
        self._truth += (truth := [label for _, label in regions])
        self._categories += [segment.category for segment, _ in regions]
        self._frame_scores[sample.image_id] = top_k_accuracy(answer, truth, 1) if regions else 1.0

    def findings(self) -> Findings:
        """Top-1, and top-5 where the model has more labels than that."""
        ranks = (1, TOP_K) if len(self._labels) > TOP_K else (1,)
        index = {label: position for position, label in enumerate(self._labels)}
        confusion = Confusion.of(
            self._labels,
            np.array([index[label] for label in self._truth], np.int64),
            np.array([index[best[0]] for best in self._ranked], np.int64),
        )
        return Findings(
            metrics={f"top{k}": top_k_accuracy(self._ranked, self._truth, k) for k in ranks},
            by_category={category: {"top1": self._accuracy(category)} for category in sorted(set(self._categories))},
            frame_scores=self._frame_scores,
            confusion=confusion.occurring(),
            notes=(f"{len(self._truth)} objects, at their true boxes",),
        )

    def draw(self, sample: Sample, answer: Ranking) -> tuple[Picture, Picture]:
        """The regions' boxes with the true and with the likeliest label; wrong ones in red."""
        regions = self._regions(sample)
        truth = [CocoObject(label, segment.box, segment.area) for segment, label in regions]
        found = [replace(true, label=best[0]) for true, best in zip(truth, answer, strict=True)]
        wrong = {each.label: (230, 30, 30) for true, each in zip(truth, found, strict=True) if each.label != true.label}
        return draw_objects(sample.image, truth, {}), draw_objects(sample.image, found, wrong)

    def _regions(self, sample: Sample) -> list[tuple[Segment, str]]:
        """The objects with an attribute whose value is one of the model's labels, and that value."""
        return [
            (segment, value)
            for segment in sample.things
            for value in segment.attributes.values()
            if value in self._labels
        ]

    def _accuracy(self, category: str) -> float:
        chosen = [index for index, each in enumerate(self._categories) if each == category]
        return top_k_accuracy([self._ranked[index] for index in chosen], [self._truth[index] for index in chosen], 1)
