"""What a stream gives up to keep its deadline, and when it gets it back."""

from __future__ import annotations

from collections import deque
from collections.abc import Set

from perception.v1 import perception_pb2, task_pb2

_WINDOW = 10
"""Frames that are looked at."""

_MISSES = 5
"""As many missed deadlines among them are one level too many."""

_ROOM = 0.6
"""A frame that took no more than this part of its deadline had room."""

_PATIENCE = 20
"""Frames with room in a row before a level is taken back."""

_LONGEST_PATIENCE = 640
"""A level that was taken back too early is kept twice as long the next time, up to this."""

_LEVELS = (
    perception_pb2.DEGRADATION_UNSPECIFIED,
    perception_pb2.DEGRADATION_NO_ATTRIBUTES,
    perception_pb2.DEGRADATION_NO_INSTANCE_MASKS,
)


class Ladder:
    """The levels of degradation of one stream, one step at a time, down and up again with hysteresis."""

    def __init__(self) -> None:
        self.level: perception_pb2.Degradation = _LEVELS[0]
        self._missed: deque[bool] = deque(maxlen=_WINDOW)
        self._with_room = 0
        self._patience = _PATIENCE
        self._frames_since_relief: int | None = None

    def note(self, level: perception_pb2.Degradation, part_of_deadline: float, complete: bool) -> None:
        """Learns from one frame.

        level: at which the frame was put to work; one of another level than now says nothing. part_of_deadline: its age
        over its deadline when it was done. complete: whether every task that was asked kept its share of it.
        """
        if level != self.level:
            return
        missed = part_of_deadline > 1 or not complete
        self._missed.append(missed)
        self._with_room = self._with_room + 1 if complete and part_of_deadline <= _ROOM else 0
        if self._frames_since_relief is not None:
            self._frames_since_relief += 1
        if sum(self._missed) >= _MISSES:
            self._give_up()
        elif self._with_room >= self._patience:
            self._take_back()

    def _give_up(self) -> None:
        if self._frames_since_relief is not None:
            relapse = self._frames_since_relief <= self._patience
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE) if relapse else _PATIENCE
        self._step(+1)
        self._frames_since_relief = None

    def _take_back(self) -> None:
        if self.level != _LEVELS[0]:
            self._step(-1)
            self._frames_since_relief = 0

    def _step(self, by: int) -> None:
        self.level = _LEVELS[min(_LEVELS.index(self.level) + by, len(_LEVELS) - 1)]
        # A level is judged by its own frames alone.
        self._missed.clear()
        self._with_room = 0


def left_out(level: perception_pb2.Degradation, wanted: Set[task_pb2.Task]) -> frozenset[task_pb2.Task]:
    """The wanted tasks that a level leaves out; never all, nor instance masks where no detection stands in for them."""
    candidates = set()
    if level >= perception_pb2.DEGRADATION_NO_ATTRIBUTES:
        candidates.add(task_pb2.TASK_CLASSIFICATION)
    if level >= perception_pb2.DEGRADATION_NO_INSTANCE_MASKS and task_pb2.TASK_DETECTION in wanted:
        candidates.add(task_pb2.TASK_INSTANCE_SEGMENTATION)
    found = frozenset(candidates & wanted)
    return found if found != wanted else frozenset()


def reported(left_out: Set[task_pb2.Task]) -> perception_pb2.Degradation:
    """The level that describes what was really left out of a scene."""
    if task_pb2.TASK_INSTANCE_SEGMENTATION in left_out:
        return perception_pb2.DEGRADATION_NO_INSTANCE_MASKS
    if task_pb2.TASK_CLASSIFICATION in left_out:
        return perception_pb2.DEGRADATION_NO_ATTRIBUTES
    return perception_pb2.DEGRADATION_UNSPECIFIED
