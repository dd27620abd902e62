from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from perception.types import ClassMap, Detections, Instances

from services.gateway.fusion import fuse
from services.gateway.unexplained import instances_from_detections
from tests.services.gateway import fusion_scenes as scenes
from tests.services.gateway.fusion_scenes import SEMANTIC_LABELS, TAXONOMY, unhurried

CAR, ROAD = SEMANTIC_LABELS.index("car"), SEMANTIC_LABELS.index("road")


def detections(*found: tuple[str, list[float], float]) -> Detections:
    return Detections(
        boxes=np.array([box for _, box, _ in found], np.float32).reshape(-1, 4),
        scores=np.array([score for _, _, score in found], np.float32),
        class_ids=np.arange(len(found), dtype=np.int32),
        labels=tuple(label for label, _, _ in found),
    )


def instance(label: str, box: list[float], score: float = 0.9) -> Instances:
    one = detections((label, box, score))
    return Instances(one.boxes, one.scores, one.class_ids, one.labels, (np.full((1, 1), 255, np.uint8),))


def street() -> ClassMap:
    """Road with a car on columns 3 to 6 and rows 2 to 7 of a 10 x 10 map."""
    ids = np.full((10, 10), ROAD, np.uint8)
    ids[2:8, 3:7] = CAR
    return ClassMap(ids, SEMANTIC_LABELS)


def test_a_detection_takes_its_category_inside_its_box():
    found = instances_from_detections(
        detections(("car", [10, 10, 90, 90], 0.8)), Instances.empty(), street(), TAXONOMY, (100, 100)
    )
    assert (len(found), found.labels, found.scores.tolist()) == (1, ("car",), pytest.approx([0.8]))
    scene = fuse(found, street(), TAXONOMY, (100, 100))
    assert [(s.category, s.area, s.box) for s in scene.segments] == [
        ("car", 24, (30, 20, 70, 80)),
        ("road", 76, (0, 0, 100, 100)),
    ]


def test_only_inside_its_box():
    found = instances_from_detections(
        detections(("car", [40, 0, 60, 100], 0.8)), Instances.empty(), street(), TAXONOMY, (100, 100)
    )
    assert fuse(found, street(), TAXONOMY, (100, 100)).segments[0].box == (40, 20, 60, 80)


def test_shapes_are_guessed_only_where_that_is_wanted():
    unseen = detections(("car", [10, 20, 70, 100], 0.8))
    arguments = (unseen, Instances.empty(), ClassMap.empty(50, 50), TAXONOMY, (100, 100))
    assert len(instances_from_detections(*arguments)) == 1
    assert len(instances_from_detections(*arguments, guess_shapes=False)) == 0
    # What the class map shows is no guess.
    shown = instances_from_detections(
        detections(("car", [10, 10, 90, 90], 0.8)),
        Instances.empty(),
        street(),
        TAXONOMY,
        (100, 100),
        guess_shapes=False,
    )
    assert len(shown) == 1


@pytest.mark.parametrize("class_map", [ClassMap.empty(50, 50), ClassMap(np.zeros((50, 50), np.uint8), ("road",))])
def test_where_the_class_map_does_not_know_the_category_an_ellipse_stands_in(class_map):
    found = instances_from_detections(
        detections(("car", [10, 20, 70, 100], 0.8)), Instances.empty(), class_map, TAXONOMY, (100, 100)
    )
    thing = fuse(found, class_map, TAXONOMY, (100, 100)).segments[0]
    assert thing.box == pytest.approx((10, 20, 70, 100), abs=2)
    assert thing.area == pytest.approx(np.pi / 4 * 30 * 40, rel=0.03)


@pytest.mark.parametrize(
    ("label", "box", "score", "added"),
    [
        ("car", [30, 20, 70, 80], 0.9, 0),  # the same object
        ("car", [30, 20, 70, 65], 0.9, 0),  # IoU 3/4
        ("person", [30, 20, 100, 80], 0.9, 1),  # another category
        ("worker", [0, 0, 100, 100], 0.4, 0),  # below the score threshold
        ("kite", [0, 0, 100, 100], 0.9, 0),  # no category
        ("car", [0, 0, 20, 20], 0.9, 0),  # no car in the class map there
        ("car", [50, 50, 50, 80], 0.9, 0),  # no width
        ("car", [50, 50, np.nan, 80], 0.9, 0),
        ("car", [200, 200, 300, 300], 0.9, 0),  # outside
    ],
)
def test_what_is_added(label, box, score, added):
    ids = street().ids.copy()
    ids[8:] = SEMANTIC_LABELS.index("person")
    ids[2:8, 7:] = SEMANTIC_LABELS.index("person")
    class_map = ClassMap(ids, SEMANTIC_LABELS)
    given_instances = instance("car", [30, 20, 70, 80])
    found = instances_from_detections(detections((label, box, score)), given_instances, class_map, TAXONOMY, (100, 100))
    assert len(found) == 1 + added


def test_an_instance_below_the_score_threshold_explains_nothing():
    weak = instance("car", [30, 20, 70, 80], score=0.3)
    detected = detections(("car", [30, 20, 70, 80], 0.9))
    found = instances_from_detections(detected, weak, street(), TAXONOMY, (100, 100))
    assert found.scores.tolist() == pytest.approx([0.9, 0.3])
    assert [s.score for s in fuse(found, street(), TAXONOMY, (100, 100)).segments] == pytest.approx([0.9, 1.0])


def test_pixels_of_instances_and_better_detections_are_left_alone():
    known = instance("car", [30, 20, 50, 80], score=0.6)
    detected = detections(("car", [0, 0, 95, 100], 0.9), ("car", [0, 0, 100, 95], 0.8))
    found = instances_from_detections(detected, known, street(), TAXONOMY, (100, 100))
    # The first takes the half of the car that is left, the second finds nothing more.
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    things = [s for s in fuse(found, street(), TAXONOMY, (100, 100)).segments if s.is_thing]
    assert [(s.score, s.box) for s in things] == [
        (pytest.approx(0.9), (50, 20, 70, 80)),
        (pytest.approx(0.6), (30, 20, 50, 80)),
    ]


@unhurried
@given(scenes.instances(maximum=4), scenes.instances(maximum=4), scenes.class_maps(), scenes.image_sizes)
def test_instances_keep_what_they_have_and_the_new_ones_get_what_their_masks_say(
    detected, instances, class_map, image_size
):
    found = instances_from_detections(
        Detections(detected.boxes, detected.scores, detected.class_ids, detected.labels),
        instances,
        class_map,
        TAXONOMY,
        image_size,
    )
    old = {id(mask) for mask in instances.masks}
    assert old <= {id(mask) for mask in found.masks}
    assert len(found) <= len(instances) + len(detected)
    added = [np.count_nonzero(mask) for mask in found.masks if id(mask) not in old]

    def areas(of: Instances) -> list[int]:
        return [s.area for s in fuse(of, class_map, TAXONOMY, image_size).segments if s.is_thing]

    assert sorted(areas(found)) == sorted(areas(instances) + added)
