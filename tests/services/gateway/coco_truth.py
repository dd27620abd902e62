"""COCO's panoptic truth as what models would have answered if they were perfect."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from perception.types import UNLABELLED, ClassMap, Instances, Panoptic

from tests.metrics.panoptic_quality import Labelled


def data() -> Path | None:
    folder = os.environ.get("PERCEPTION_DATA")
    return Path(folder) if folder else None


@dataclass
class Picture:
    """ids: int [H, W], segment ids of the truth. segments: its `segments_info`. labels: names by category id."""

    image_id: int
    ids: NDArray[np.int32]
    segments: list[dict[str, Any]]
    categories: dict[int, dict[str, Any]]

    def _name(self, segment: dict[str, Any]) -> str:
        return str(self.categories[segment["category_id"]]["name"])

    @cached_property
    def labelled(self) -> Labelled:
        names = {segment["id"]: self._name(segment) for segment in self.segments}
        return Labelled(self.ids, names, frozenset(s["id"] for s in self.segments if s["iscrowd"]))

    @cached_property
    def class_map(self) -> ClassMap:
        labels = tuple(category["name"] for category in self.categories.values())
        ids = np.full(self.ids.shape, UNLABELLED, np.uint8)
        for segment in self.segments:
            ids[self.ids == segment["id"]] = labels.index(self._name(segment))
        return ClassMap(ids, labels)

    @cached_property
    def instances(self) -> Instances:
        """Every thing that is no crowd, cut out along its box."""
        boxes, labels, masks = [], [], []
        for segment in self.segments:
            if self.categories[segment["category_id"]]["isthing"] and not segment["iscrowd"]:
                mask = (self.ids == segment["id"]).astype(np.uint8)
                x, y, width, height = cv2.boundingRect(mask)
                boxes.append([x, y, x + width, y + height])
                labels.append(self._name(segment))
                masks.append(mask[y : y + height, x : x + width] * np.uint8(255))
        count = len(labels)
        return Instances(
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.ones(count, np.float32),
            class_ids=np.zeros(count, np.int32),
            labels=tuple(labels),
            masks=tuple(masks),
        )


def pictures() -> Iterator[Picture]:
    """The two examples of the panoptic task, then the photos of val2017."""
    folder = data()
    assert folder is not None
    labels = folder / "labels"
    known = json.loads((labels / "coco_panoptic/panoptic_coco_categories.json").read_text())
    categories = {category["id"]: category for category in known}
    for index, images in (
        ("coco_panoptic/panoptic_examples.json", "coco_panoptic/panoptic_examples"),
        ("coco_val2017_100/panoptic_val2017.json", "coco_val2017_100/panoptic_png"),
    ):
        for annotation in json.loads((labels / index).read_text())["annotations"]:
            png = (labels / images / annotation["file_name"]).with_suffix(".png")
            blue, green, red = cv2.split(cv2.imread(str(png)).astype(np.int32))
            ids = red + 256 * green + 65536 * blue
            yield Picture(annotation["image_id"], ids, annotation["segments_info"], categories)


def labelled(scene: Panoptic) -> Labelled:
    """A scene for the metric."""
    return Labelled(scene.ids, {segment.id: segment.category for segment in scene.segments})
