"""Ground truth in, ground truth out; and what fusion adds when the models are not perfect."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from perception.types import ClassMap, Detections, Instances, Panoptic

from services.gateway.canvas import FusionOptions
from services.gateway.fusion import fuse
from services.gateway.taxonomy import Taxonomy
from services.gateway.unexplained import fuse_all
from tests.metrics.panoptic_quality import PanopticQuality
from tests.services.gateway.coco_truth import Picture, data, labelled, pictures
from tests.services.gateway.fusion_scenes import permuted

pytestmark = pytest.mark.skipif(data() is None, reason="PERCEPTION_DATA is not set")

TAXONOMY = Taxonomy.load("coco")
EVERYTHING = FusionOptions(stuff_minimum_fraction=0, stuff_minimum_pixels=1)


@pytest.fixture(scope="module")
def truth() -> list[Picture]:
    return list(pictures())


def quality(truth: list[Picture], answer: Callable[[Picture], Panoptic]) -> float:
    metric = PanopticQuality()
    for picture in truth:
        metric.add(picture.labelled, labelled(answer(picture)))
    return metric.quality


def coarse(picture: Picture) -> Instances:
    """The instances as a weak model sees them: 7 x 7 cells a mask, blurred."""
    exact = picture.instances
    masks = tuple(cv2.blur(cv2.resize(mask, (7, 7), interpolation=cv2.INTER_AREA), (3, 3)) for mask in exact.masks)
    return Instances(exact.boxes, exact.scores, exact.class_ids, exact.labels, masks)


def test_the_truth_comes_back(truth):
    assert len(truth) == 62

    def answer(picture: Picture) -> Panoptic:
        order = np.random.default_rng(picture.image_id).permutation(len(picture.instances)).tolist()
        instances = permuted(picture.instances, order)
        return fuse(instances, picture.class_map, TAXONOMY, picture.ids.shape, EVERYTHING)

    assert quality(truth, answer) >= 0.995


def test_the_default_options_lose_little_of_the_truth(truth):
    assert quality(truth[:20], lambda p: fuse(p.instances, p.class_map, TAXONOMY, p.ids.shape)) >= 0.98


def test_weighing_the_class_map_repairs_coarse_masks(truth):
    def answer(weight: float) -> Callable[[Picture], Panoptic]:
        options = FusionOptions(semantic_weight=weight)
        return lambda p: fuse(coarse(p), p.class_map, TAXONOMY, p.ids.shape, options)

    few = truth[:12]
    assert quality(few, answer(FusionOptions().semantic_weight)) > quality(few, answer(0.0)) + 0.03


def test_detections_stand_in_for_instances(truth):
    def answer(with_detections: bool, class_map: Callable[[Picture], ClassMap]) -> Callable[[Picture], Panoptic]:
        def fused(picture: Picture) -> Panoptic:
            found = picture.instances
            detections = Detections(found.boxes, found.scores, found.class_ids, found.labels)
            arguments = (class_map(picture), TAXONOMY, picture.ids.shape)
            return fuse_all(detections if with_detections else Detections.empty(), Instances.empty(), *arguments)

        return fused

    few = truth[:12]
    # With a class map most objects come back whole; touching ones of one category are told apart by their boxes alone.
    assert quality(few, answer(True, lambda p: p.class_map)) > 0.8
    assert quality(few, answer(False, lambda p: p.class_map)) < 0.6
    # Without one, ellipses still find some.
    assert quality(few, answer(True, lambda p: ClassMap.empty(*p.ids.shape))) > 0.1
