"""Scenes that are drawn by lot: instances and a class map, for `fuse()` and for the loops of the original method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from perception.types import ClassMap, Instances, Panoptic, labels_of
from pycocotools import mask as coco

from loadtest.bench.kirillov import Found, RunLengths, Thresholds, combine, combine_runs
from services.gateway.canvas import FusionOptions
from services.gateway.fusion import fuse
from services.gateway.taxonomy import Taxonomy

PAPER = FusionOptions(semantic_weight=0)
"""What the paper does and no more."""

_MASK_SIDE = 28
_PATCHES = (6, 12)


@dataclass(frozen=True)
class MadeScene:
    """Instances and a class map as `fuse()` takes them, and as the loops do.

    category_ids: int64 [N] of the instances. semantic: category ids of stuff uint8 [H, W], 0 where there is a thing.
    """

    instances: Instances
    class_map: ClassMap
    taxonomy: Taxonomy
    category_ids: NDArray[np.int64]
    semantic: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the map, and of the picture."""
        height, width = self.semantic.shape
        return height, width

    @property
    def thresholds(self) -> Thresholds:
        """The paper's thresholds as the loops are told them."""
        stuff_pixels = max(PAPER.stuff_minimum_fraction * self.semantic.size, PAPER.stuff_minimum_pixels)
        return Thresholds(PAPER.score_threshold, 1 - PAPER.overlap_threshold, stuff_pixels)

    def fuse(self) -> Panoptic:
        """The scene after `fuse()` by the paper's rule."""
        return fuse(self.instances, self.class_map, self.taxonomy, self.size, PAPER)

    def paste(self) -> NDArray[np.bool_]:
        """The instances' masks over the whole map, bool [N, H, W]."""
        return np.stack([self.instances.mask(index, *self.size) for index in range(len(self.instances))])

    def run_lengths(self, masks: NDArray[np.bool_]) -> tuple[list[RunLengths], list[tuple[int, RunLengths]]]:
        """Instances and stuff as `combine_runs` takes them."""
        kinds = [int(category_id) for category_id in np.unique(self.semantic) if category_id]
        return [_encode(mask) for mask in masks], [(kind, _encode(self.semantic == kind)) for kind in kinds]

    def loop(self, masks: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[Found]]:
        """The scene after the loop over whole maps."""
        return combine(masks, self.instances.scores, self.category_ids, self.semantic, self.thresholds)

    def loop_of_runs(
        self, instances: list[RunLengths], stuff: list[tuple[int, RunLengths]]
    ) -> tuple[NDArray[np.int32], list[Found]]:
        """The scene after the loop over run lengths."""
        return combine_runs(instances, self.instances.scores, self.category_ids, stuff, self.size, self.thresholds)

    def require_equal(self, masks: NDArray[np.bool_]) -> None:
        """Raises `AssertionError` where a loop does not give the scene that `fuse()` does."""
        fused = self.fuse()
        segments = [Found(each.id, each.category_id, each.area) for each in fused.segments]
        for name, (ids, found) in {
            "over whole maps": self.loop(masks),
            "over run lengths": self.loop_of_runs(*self.run_lengths(masks)),
        }.items():
            if not np.array_equal(ids, fused.ids) or found != segments:
                raise AssertionError(f"the loop {name} gives another scene than fuse()")


def make_scene(height: int, width: int, count: int, seed: int = 0) -> MadeScene:
    """A scene of `count` round things of all sizes, some of them hidden, over patches of stuff and of things."""
    generator = np.random.default_rng(seed)
    taxonomy = Taxonomy.load("demo")
    labels = tuple(label for category in taxonomy.categories for label in category.semantic_labels)
    patches = generator.integers(len(labels), size=_PATCHES, dtype=np.uint8)
    ids = np.asarray(cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
    confidence = generator.integers(64, 256, size=ids.shape, dtype=np.uint8)
    instances = _make_instances(height, width, count, sorted(taxonomy.instance_ids), generator)
    stuff = [0 if category.is_thing else id for id, category in enumerate(taxonomy.categories, 1)]
    return MadeScene(
        instances,
        ClassMap(ids, labels, confidence),
        taxonomy,
        np.array([taxonomy.instance_ids[label] for label in instances.labels], np.int64),
        np.array([0, *stuff], np.uint8)[taxonomy.semantic_table(labels)[ids]],
    )


def _make_instances(
    height: int, width: int, count: int, labels: list[str], generator: np.random.Generator
) -> Instances:
    # Sides from a thirtieth of the picture's height to four tenths of it, small ones more often, as in a street.
    sides = height * np.exp(generator.uniform(np.log(1 / 30), np.log(0.4), (count, 2)))
    centres = generator.uniform((0, 0), (width, height), (count, 2))
    class_ids = generator.integers(len(labels), size=count, dtype=np.int32)
    return Instances(
        boxes=np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32),
        # No two alike, because only fuse() says how it orders equals; and some too low.
        scores=generator.permutation(np.linspace(0.4, 1, count, dtype=np.float32)),
        class_ids=class_ids,
        labels=labels_of(class_ids, labels),
        masks=tuple(_round_mask(generator) for _ in range(count)),
    )


def _round_mask(generator: np.random.Generator) -> NDArray[np.uint8]:
    places = (np.arange(_MASK_SIDE) + 0.5) / _MASK_SIDE * 2 - 1
    distance = np.hypot(places, places[:, None]) + generator.normal(0, 0.1, (_MASK_SIDE, _MASK_SIDE))
    return np.asarray(255 / (1 + np.exp(8 * (distance - 0.85))), np.uint8)


def _encode(mask: NDArray[np.bool_]) -> RunLengths:
    runs: dict[str, Any] = coco.encode(np.asfortranarray(mask, np.uint8))
    return runs
