"""The values of a scene cannot be built inconsistent, and the message says what was expected and what was found."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from perception.types import ClassMap, Detections, Instances, Panoptic, Segment, labels_of


def detections(**changes: Any) -> Detections:
    return Detections(**{**arrays(2), **changes})


def instances(**changes: Any) -> Instances:
    return Instances(**{**arrays(2), "masks": (np.zeros((7, 7), np.uint8), np.zeros((3, 5), np.uint8)), **changes})


def arrays(count: int) -> dict[str, Any]:
    return {
        "boxes": np.zeros((count, 4), np.float32),
        "scores": np.zeros(count, np.float32),
        "class_ids": np.zeros(count, np.int32),
        "labels": ("car",) * count,
    }


def segment(number: int) -> Segment:
    return Segment(number, "car", 1, True, 0.5, (0.0, 0.0, 1.0, 1.0), 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        # one box too few
        (
            lambda: detections(boxes=np.zeros((1, 4), np.float32)),
            "Detections.boxes: expected float32 [2, 4] for 2 labels, got float32 [1, 4]",
        ),
        # NumPy's default type
        (lambda: detections(boxes=np.zeros((2, 4))), "expected float32 [2, 4] for 2 labels, got float64 [2, 4]"),
        # a list
        (
            lambda: detections(scores=[0.5, 0.5]),
            "Detections.scores: expected float32 [2] for 2 labels, got float64 [2]",
        ),
        # a column
        (
            lambda: detections(scores=np.zeros((2, 1), np.float32)),
            "expected float32 [2] for 2 labels, got float32 [2, 1]",
        ),
        (
            lambda: detections(class_ids=np.zeros(2, np.int64)),
            "Detections.class_ids: expected int32 [2] for 2 labels, got int64 [2]",
        ),
        # labels decide how many there are
        (lambda: detections(labels=("car",)), "expected float32 [1, 4] for 1 labels, got float32 [2, 4]"),
        # a subclass is named
        (lambda: instances(boxes=np.zeros((2, 5), np.float32)), "Instances.boxes: expected float32 [2, 4]"),
        (lambda: instances(masks=()), "Instances.masks: expected 2 masks, got 0"),
        # probabilities, not decisions
        (
            lambda: instances(masks=(np.zeros((7, 7), np.bool_),) * 2),
            "Instances.masks: expected uint8 [h, w] with at least one cell, got bool [7, 7]",
        ),
        (lambda: instances(masks=(np.zeros((7, 7, 1), np.uint8),) * 2), "got uint8 [7, 7, 1]"),
        (lambda: instances(masks=(np.zeros((0, 7), np.uint8),) * 2), "got uint8 [0, 7]"),
        (
            lambda: ClassMap(np.zeros((2, 2), np.int32), ("road",)),
            "ClassMap.ids: expected uint8 [H, W], got int32 [2, 2]",
        ),
        (lambda: ClassMap(np.zeros(4, np.uint8), ("road",)), "ClassMap.ids: expected uint8 [H, W], got uint8 [4]"),
        # 255 stays free for what no label names
        (
            lambda: ClassMap(np.zeros((2, 2), np.uint8), ("x",) * 256),
            "ClassMap.labels: expected at most 255 labels, got 256",
        ),
        (
            lambda: ClassMap(np.zeros((2, 2), np.uint8), ("road",), np.zeros((2, 3), np.uint8)),
            "ClassMap.confidence: expected uint8 [2, 2], got uint8 [2, 3]",
        ),
        (lambda: Panoptic(np.zeros((2, 2), np.int64), ()), "Panoptic.ids: expected int32 [H, W], got int64 [2, 2]"),
        # a pixel of no segment
        (lambda: Panoptic(np.full((2, 2), 3, np.int32), ()), "Panoptic.segments: expected the map's ids [3], got []"),
        # a segment of no pixel
        (lambda: Panoptic(np.zeros((2, 2), np.int32), (segment(3),)), "expected the map's ids [], got [3]"),
        # one id twice
        (
            lambda: Panoptic(np.full((2, 2), 3, np.int32), (segment(3), segment(3))),
            "expected the map's ids [3], got [3, 3]",
        ),
        # the same map with other segments
        (
            lambda: Panoptic(np.full((2, 2), 3, np.int32), (segment(3),)).with_segments([segment(4)]),
            "Panoptic.segments: expected the ids [3], got [4]",
        ),
        (lambda: Panoptic(np.full((2, 2), -1, np.int32), ()), "Panoptic.ids: expected values 0..65535, got -1..-1"),
        (lambda: Panoptic(np.full((2, 2), 65536, np.int32), ()), "expected values 0..65535, got 65536..65536"),
        (lambda: labels_of([0, 2], ("car", "bus")), "class id: expected below 2, got 2"),
        (lambda: labels_of([-1], ("car",)), "class id: expected below 1, got -1"),
    ],
)
def test_a_value_that_would_be_inconsistent_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize("value", [detections(), instances(), ClassMap.empty(2, 3), Panoptic.empty(2, 3), segment(1)])
def test_values_are_frozen(value: Any) -> None:
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)


def test_empty_values_say_that_nothing_was_found() -> None:
    assert len(Detections.empty()) == len(Instances.empty()) == 0
    assert isinstance(Instances.empty(), Instances)
    assert Instances.empty().masks == ()
    assert (ClassMap.empty(2, 3).ids == np.full((2, 3), 255)).all()
    assert ClassMap.empty(2, 3).labels == ()
    assert (Panoptic.empty(2, 3).ids == np.zeros((2, 3))).all()
    assert Panoptic.empty(2, 3).segments == ()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1)])
def test_a_scene_of_hardly_any_pixel_is_a_scene(shape: tuple[int, int]) -> None:
    assert Panoptic.empty(*shape).ids.shape == shape


@pytest.mark.parametrize(
    "ids",
    [
        [[1, 1, 2], [2, 3, 3]],
        [[5]],  # an id in the last pixel alone
        [[0, 0, 65535]],
        [[7, 0, 7, 0, 7]],  # runs that come back
    ],
)
def test_a_scene_whose_ids_and_segments_agree_is_accepted(ids: list[list[int]]) -> None:
    numbers = sorted({number for row in ids for number in row} - {0})
    panoptic = Panoptic(np.array(ids, np.int32), tuple(segment(number) for number in reversed(numbers)))
    assert [found.id for found in panoptic.segments] == numbers[::-1]


def test_an_instances_mask_over_the_picture() -> None:
    found = Instances(
        boxes=np.array([[2, 1, 4, 3], [-2, -2, 2, 2]], np.float32),
        scores=np.ones(2, np.float32),
        class_ids=np.zeros(2, np.int32),
        labels=("car", "car"),
        masks=(np.array([[255, 0], [0, 255]], np.uint8), np.full((3, 3), 255, np.uint8)),
    )
    assert found.mask(0, 4, 5).tolist() == [
        [False, False, False, False, False],
        [False, False, True, False, False],
        [False, False, False, True, False],
        [False, False, False, False, False],
    ]
    # Of a box over the picture's corner, the part inside.
    assert np.argwhere(found.mask(1, 4, 5)).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_labels_by_class_id() -> None:
    assert labels_of(np.array([1, 0, 1], np.int32), ["car", "bus"]) == ("bus", "car", "bus")
    assert labels_of([], []) == ()
