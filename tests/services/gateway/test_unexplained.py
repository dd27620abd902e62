from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from perception.types import ClassMap, Detections, Instances, Segment

from services.gateway.fusion import fuse
from services.gateway.unexplained import fuse_all
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


def things(*arguments, **options) -> list[Segment]:
    """The things of `fuse_all` with these arguments, on a picture of 100 x 100."""
    scene = fuse_all(*arguments, TAXONOMY, (100, 100), **options)
    return [segment for segment in scene.segments if segment.is_thing]


def test_a_detection_takes_its_category_inside_its_box():
    scene = fuse_all(detections(("car", [10, 10, 90, 90], 0.8)), Instances.empty(), street(), TAXONOMY, (100, 100))
    assert [(s.category, s.score, s.area, s.box) for s in scene.segments] == [
        ("car", pytest.approx(0.8), 24, (30, 20, 70, 80)),
        ("road", 1, 76, (0, 0, 100, 100)),
    ]


def test_only_inside_its_box():
    (car,) = things(detections(("car", [40, 0, 60, 100], 0.8)), Instances.empty(), street())
    assert car.box == (40, 20, 60, 80)


def test_shapes_are_guessed_only_where_that_is_wanted():
    unseen = detections(("car", [10, 20, 70, 100], 0.8))
    assert len(things(unseen, Instances.empty(), ClassMap.empty(50, 50))) == 1
    assert not things(unseen, Instances.empty(), ClassMap.empty(50, 50), guess_shapes=False)
    # What the class map shows is no guess.
    shown = detections(("car", [10, 10, 90, 90], 0.8))
    assert len(things(shown, Instances.empty(), street(), guess_shapes=False)) == 1


@pytest.mark.parametrize("class_map", [ClassMap.empty(50, 50), ClassMap(np.zeros((50, 50), np.uint8), ("road",))])
def test_where_the_class_map_does_not_know_the_category_an_ellipse_stands_in(class_map):
    (thing,) = things(detections(("car", [10, 20, 70, 100], 0.8)), Instances.empty(), class_map)
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
    found = things(detections((label, box, score)), given_instances, class_map)
    assert len(found) == 1 + added


def test_an_instance_below_the_score_threshold_explains_nothing():
    weak = instance("car", [30, 20, 70, 80], score=0.3)
    detected = detections(("car", [30, 20, 70, 80], 0.9))
    assert [thing.score for thing in things(detected, weak, street())] == pytest.approx([0.9])


def test_pixels_of_instances_and_better_detections_are_left_alone():
    known = instance("car", [30, 20, 50, 80], score=0.6)
    detected = detections(("car", [0, 0, 95, 100], 0.9), ("car", [0, 0, 100, 95], 0.8))
    # The first takes the half of the car that is left, the second finds nothing more.
    assert [(thing.score, thing.box) for thing in things(detected, known, street())] == [
        (pytest.approx(0.9), (50, 20, 70, 80)),
        (pytest.approx(0.6), (30, 20, 50, 80)),
    ]


@unhurried
@given(scenes.instances(maximum=4), scenes.instances(maximum=4), scenes.class_maps(), scenes.image_sizes)
def test_instances_keep_what_they_have(detected, instances, class_map, image_size):
    alone = fuse(instances, class_map, TAXONOMY, image_size)
    scene = fuse_all(
        Detections(detected.boxes, detected.scores, detected.class_ids, detected.labels),
        instances,
        class_map,
        TAXONOMY,
        image_size,
    )
    for segment in alone.segments:
        if segment.is_thing:
            ids = np.unique(scene.ids[alone.ids == segment.id])
            assert len(ids) == 1
            (same,) = [other for other in scene.segments if other.id == ids[0]]
            assert replace(same, id=segment.id) == segment
