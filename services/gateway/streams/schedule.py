"""The order and the bounds of one stream: which frame waits, which are at work, which answer is next.

A state machine without clock or I/O, so that every order of events can be tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Frame = TypeVar("Frame")
Answer = TypeVar("Answer")


@dataclass(eq=False)
class Place(Generic[Frame, Answer]):
    """A frame's place in the order of answers. frame: None once it has its answer. answer: None until then."""

    frame: Frame | None
    answer: Answer | None = None


class Schedule(Generic[Frame, Answer]):
    """Frames in, one answer for each out, in the same order.

    max_in_flight: frames that may have been started and whose answer is not taken yet. A frame that is done and waits
    for its turn to be answered, or for a slow reader, counts among them, so that no more scenes than these are held.
    max_unanswered: frames that may have come in and whose answer is not taken yet.
    """

    def __init__(self, max_in_flight: int, max_unanswered: int) -> None:
        self._max_in_flight = max_in_flight
        self._max_unanswered = max_unanswered
        self._places: deque[Place[Frame, Answer]] = deque()
        self._started: set[Place[Frame, Answer]] = set()
        self.waiting: Place[Frame, Answer] | None = None

    @property
    def may_arrive(self) -> bool:
        """Whether there is room for another frame."""
        return len(self._places) < self._max_unanswered

    def arrive(self, frame: Frame) -> Place[Frame, Answer] | None:
        """The newest frame waits from now on. Returns the older one that waited: it has to be answered."""
        superseded, self.waiting = self.waiting, Place(frame)
        self._places.append(self.waiting)
        return superseded

    def arrive_answered(self, answer: Answer) -> None:
        """A frame that has its answer already takes its place in the order."""
        self._places.append(Place(None, answer))

    @property
    def may_start(self) -> bool:
        """Whether a frame waits and may be put to work."""
        return self.waiting is not None and len(self._started) < self._max_in_flight

    def start(self) -> Place[Frame, Answer]:
        """Takes the waiting frame to put it to work."""
        place = self.withdraw()
        self._started.add(place)
        return place

    def withdraw(self) -> Place[Frame, Answer]:
        """Takes the waiting frame to answer it without work. Raises `ValueError` when none waits."""
        if self.waiting is None:
            raise ValueError("no frame waits")
        place, self.waiting = self.waiting, None
        return place

    def answer(self, place: Place[Frame, Answer], answer: Answer) -> None:
        """Gives a frame its answer."""
        place.frame, place.answer = None, answer

    @property
    def next_answer(self) -> Answer | None:
        """The answer that is next to be taken; None while there is none yet."""
        return self._places[0].answer if self._places else None

    def taken(self) -> None:
        """The next answer has been taken."""
        self._started.discard(self._places.popleft())

    @property
    def unanswered(self) -> Iterable[Place[Frame, Answer]]:
        """Every frame that came in and whose answer was not taken, in order."""
        return self._places

    @property
    def idle(self) -> bool:
        """Whether every frame that came in was answered, and every answer was taken."""
        return not self._places
