"""The whole system through its gateway, judged by panoptic quality and the attributes of what it finds."""

from __future__ import annotations

import numpy as np
from perception import Panoptic, PerceptionError, Scene
from perception import Segment as FoundSegment
from perception.caller import Caller
from perception.convert import color_from_integer
from perception.drawing import draw_panoptic

from models.datasets.sample import Dataset, DatasetError, Sample
from models.evaluation.confusion import Confusion
from models.evaluation.overlays import Picture, truth_scene
from models.evaluation.panoptic_quality import Comparison, Labelling, Tally, compare
from models.evaluation.result import EvaluationError, Findings
from models.evaluation.subjects.connection import CALL_SECONDS, GatewayConnection, failed_tasks
from models.evaluation.subjects.subject import Subject


class SystemSubject(Subject[Scene]):
    """The gateway at `address`, with the thresholds that its callers get when they say nothing.

    Categories are matched by name. Judged are those that the data set and the system's taxonomy share; stuff only where
    the system has a semantic model. The other categories of the truth are not void: an object found there is wrong.

    Raises:
        EvaluationError: nothing answers there, or a task of the system is not ready.
    """

    model = ""

    def __init__(self, address: str, dataset: Dataset, caller: Caller) -> None:
        gateway = GatewayConnection(address, caller)
        self._client, self._tasks = gateway.client, gateway.tasks
        self._categories = dataset.categories
        known = {category.name: color_from_integer(category.color) for category in gateway.categories}
        self._colours = {category.name: known.get(category.name, category.colour) for category in dataset.categories}
        own = [category.name for category in dataset.categories]
        self._index = {name: index for index, name in enumerate([*own, *sorted(set(known).difference(own))])}
        shared = [category for category in dataset.categories if category.name in known]
        self._things = [self._index[category.name] for category in shared if category.is_thing]
        has_stuff = "semantic_segmentation" in self._tasks
        self._stuff = [self._index[category.name] for category in shared if not category.is_thing and has_stuff]
        self._tally = Tally.empty(len(self._index))
        self._pixels = np.zeros((len(self._index) + 1,) * 2, np.int64)
        self._attributes: list[bool] = []
        self._frame_scores: dict[int, float] = {}

    def ask(self, sample: Sample) -> Scene:
        """Perceive. Raises `EvaluationError` also where a task failed, which a scene alone would survive."""
        try:
            scene = self._client.perceive(sample.image, timeout=CALL_SECONDS)
        except PerceptionError as error:
            raise EvaluationError(f"{sample.file_name}: {error.code.name}: {error}") from error
        if failed := failed_tasks(scene):
            raise EvaluationError(f"{sample.file_name}: {failed}")
        return scene

    def add(self, sample: Sample, answer: Scene) -> None:
        """Match the scene's segments with the truth's."""
        compared = compare(self._truth(sample), self._found(answer.panoptic), len(self._index))
        self._tally += compared.tally
        self._pixels += compared.pixels
        self._attributes += self._attributes_right(sample, answer.panoptic, compared)
        self._frame_scores[sample.image_id] = compared.tally.pooled(self._things + self._stuff)

    def findings(self) -> Findings:
        """PQ, SQ and RQ over all, things and stuff, and the accuracy of attributes on the objects that were found."""
        groups = {"": self._things + self._stuff, "_things": self._things, "_stuff": self._stuff}
        metrics = {
            f"{name}{suffix}": value
            for suffix, categories in groups.items()
            for name, value in self._tally.mean(categories).items()
        }
        if self._attributes:
            metrics["attribute_accuracy"] = float(np.mean(self._attributes))
        return Findings(
            metrics=metrics,
            by_category=self._by_category(),
            frame_scores=self._frame_scores,
            confusion=self._confusion().occurring(),
            notes=self._notes(),
        )

    def draw(self, sample: Sample, answer: Scene) -> tuple[Picture, Picture]:
        """Both scenes, in the colours of the system's taxonomy where it knows the category."""
        truth = truth_scene(sample, self._colours)
        return draw_panoptic(sample.image, truth), draw_panoptic(sample.image, answer.panoptic)

    def _truth(self, sample: Sample) -> Labelling:
        if sample.panoptic is None:
            raise DatasetError(f"sample {sample.file_name!r}: expected a panoptic map, found none")
        return Labelling(
            ids=sample.panoptic,
            categories={segment.id: self._index[segment.category] for segment in sample.segments},
            crowds=frozenset(segment.id for segment in sample.segments if segment.is_crowd),
        )

    def _found(self, panoptic: Panoptic) -> Labelling:
        return Labelling(panoptic.ids, {segment.id: self._index[segment.category] for segment in panoptic.segments})

    def _by_category(self) -> dict[str, dict[str, float]]:
        qualities = {
            "PQ": self._tally.panoptic_quality,
            "SQ": self._tally.segmentation_quality,
            "RQ": self._tally.recognition_quality,
        }
        return {
            name: {quality: float(values[index]) for quality, values in qualities.items()}
            for name, index in self._index.items()
            if index in {*self._things, *self._stuff} and self._tally.seen[index]
        }

    def _confusion(self) -> Confusion:
        """Pixels by true and found category, of those that are judged."""
        judged = self._things + self._stuff
        others = sorted({*range(len(self._pixels))}.difference(judged))
        rows = self._pixels[judged]
        counts = np.concatenate((rows[:, judged], rows[:, others].sum(axis=1, keepdims=True)), axis=1)
        return Confusion(tuple(self._categories[index].name for index in judged), counts)

    def _notes(self) -> tuple[str, ...]:
        judged, things, stuff = len(self._things + self._stuff), len(self._things), len(self._stuff)
        shared = f"judged on {judged} categories that data set and taxonomy share: {things} things, {stuff} stuff"
        if "semantic_segmentation" not in self._tasks:
            return (f"{shared}; stuff is left out, as the system has no semantic model",)
        return (shared,)

    def _attributes_right(self, sample: Sample, found: Panoptic, compared: Comparison) -> list[bool]:
        """For every attribute of an object that was found, where the system could name it: whether it is right."""
        classifier = self._tasks.get("classification")
        values = set(classifier.model.labels) if classifier else set()
        by_id: dict[int, FoundSegment] = {segment.id: segment for segment in found.segments}
        return [
            any(each.name == name and each.value == value for each in by_id[compared.matches[segment.id]].attributes)
            for segment in sample.things
            if segment.id in compared.matches
            for name, value in segment.attributes.items()
            if value in values
        ]
