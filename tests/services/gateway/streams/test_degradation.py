"""When a stream gives something up, and when it gets it back."""

from __future__ import annotations

import pytest
from perception.v1 import perception_pb2, task_pb2

from services.gateway.streams.degradation import Ladder, left_out, reported

NOTHING = perception_pb2.DEGRADATION_UNSPECIFIED
NO_ATTRIBUTES = perception_pb2.DEGRADATION_NO_ATTRIBUTES
NO_INSTANCE_MASKS = perception_pb2.DEGRADATION_NO_INSTANCE_MASKS
DETECTION = task_pb2.TASK_DETECTION
INSTANCES = task_pb2.TASK_INSTANCE_SEGMENTATION
SEMANTICS = task_pb2.TASK_SEMANTIC_SEGMENTATION
CLASSES = task_pb2.TASK_CLASSIFICATION


def feed(ladder: Ladder, frames: int, part_of_deadline: float, complete: bool = True) -> None:
    for _ in range(frames):
        ladder.note(ladder.level, part_of_deadline, complete)


def frames_until_it_changes(ladder: Ladder, part_of_deadline: float, limit: int = 10_000) -> int:
    before = ladder.level
    for frame in range(1, limit):
        ladder.note(ladder.level, part_of_deadline, complete=True)
        if ladder.level != before:
            return frame
    raise AssertionError(f"no change in {limit} frames")


def test_attributes_go_first_then_instance_masks_and_no_further() -> None:
    ladder = Ladder()
    feed(ladder, 4, 1.2)
    assert ladder.level == NOTHING
    feed(ladder, 1, 1.2)
    assert ladder.level == NO_ATTRIBUTES
    feed(ladder, 4, 1.2)
    assert ladder.level == NO_ATTRIBUTES  # judged by its own frames
    feed(ladder, 1, 0.2, complete=False)  # a task that was late is a deadline that was missed
    assert ladder.level == NO_INSTANCE_MASKS
    feed(ladder, 100, 1.2)
    assert ladder.level == NO_INSTANCE_MASKS


def test_it_comes_back_step_by_step_where_there_is_room() -> None:
    ladder = Ladder()
    feed(ladder, 10, 2.0)
    assert ladder.level == NO_INSTANCE_MASKS
    feed(ladder, 19, 0.5)
    assert ladder.level == NO_INSTANCE_MASKS
    feed(ladder, 1, 0.5)
    assert ladder.level == NO_ATTRIBUTES
    feed(ladder, 20, 0.5)
    assert ladder.level == NOTHING
    feed(ladder, 1000, 0.5)
    assert ladder.level == NOTHING


def test_in_time_without_room_changes_nothing() -> None:
    ladder = Ladder()
    feed(ladder, 5, 2.0)
    feed(ladder, 1000, 0.8)
    assert ladder.level == NO_ATTRIBUTES


def test_a_deadline_missed_now_and_then_is_no_reason() -> None:
    ladder = Ladder()
    for _ in range(100):
        feed(ladder, 2, 1.5)
        feed(ladder, 4, 0.9)
    assert ladder.level == NOTHING


def test_a_level_that_was_taken_back_too_early_is_kept_longer() -> None:
    """A system that has room only while it is degraded: the swings become rare."""
    ladder = Ladder()
    waits = []
    for _ in range(7):
        frames_until_it_changes(ladder, 1.5)
        waits.append(frames_until_it_changes(ladder, 0.3))
    assert waits == [20, 40, 80, 160, 320, 640, 640]
    feed(ladder, 1000, 0.3)  # it held this time
    frames_until_it_changes(ladder, 1.5)
    assert frames_until_it_changes(ladder, 0.3) == 20


def test_a_frame_of_another_level_says_nothing_of_this_one() -> None:
    ladder = Ladder()
    for _ in range(20):
        ladder.note(NO_ATTRIBUTES, 3.0, complete=False)
    assert ladder.level == NOTHING


@pytest.mark.parametrize(
    ("level", "wanted", "gone", "said"),
    [
        (NOTHING, {DETECTION, INSTANCES, SEMANTICS, CLASSES}, set(), NOTHING),
        (NO_ATTRIBUTES, {DETECTION, INSTANCES, SEMANTICS, CLASSES}, {CLASSES}, NO_ATTRIBUTES),
        (NO_INSTANCE_MASKS, {DETECTION, INSTANCES, SEMANTICS, CLASSES}, {CLASSES, INSTANCES}, NO_INSTANCE_MASKS),
        (NO_INSTANCE_MASKS, {DETECTION, INSTANCES}, {INSTANCES}, NO_INSTANCE_MASKS),
        (NO_ATTRIBUTES, {DETECTION, SEMANTICS}, set(), NOTHING),  # nothing that it could leave out
        (NO_INSTANCE_MASKS, {INSTANCES, SEMANTICS}, set(), NOTHING),  # no detection to stand in for the masks
        (NO_INSTANCE_MASKS, {INSTANCES, CLASSES}, {CLASSES}, NO_ATTRIBUTES),
        (NO_ATTRIBUTES, {CLASSES}, set(), NOTHING),  # never all
        (NO_INSTANCE_MASKS, {INSTANCES}, set(), NOTHING),
    ],
)
def test_what_a_level_leaves_out(level: int, wanted: set[int], gone: set[int], said: int) -> None:
    assert left_out(level, wanted) == gone
    assert reported(left_out(level, wanted)) == said
