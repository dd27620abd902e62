"""The order and the bounds of a stream, in every order of events."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.gateway.streams.schedule import Place, Schedule


class Streaming(RuleBasedStateMachine):
    """Frames are numbers; the answer to a frame is its number and what became of it."""

    @initialize(max_in_flight=st.integers(1, 4), max_unanswered=st.integers(2, 8))
    def begin(self, max_in_flight: int, max_unanswered: int) -> None:
        self.max_in_flight, self.max_unanswered = max_in_flight, max_unanswered
        self.schedule: Schedule[int, tuple[int, str]] = Schedule(max_in_flight, max_unanswered)
        self.sent: list[int] = []
        self.taken: list[tuple[int, str]] = []
        self.at_work: dict[int, Place[int, tuple[int, str]]] = {}

    @precondition(lambda self: self.schedule.may_arrive)
    @rule()
    def arrive(self) -> None:
        self.sent.append(len(self.sent))
        older = self.schedule.arrive(self.sent[-1])
        if older is not None:
            assert older.frame is not None
            self.schedule.answer(older, (older.frame, "superseded"))
        assert self.schedule.waiting is not None
        assert self.schedule.waiting.frame == self.sent[-1]

    @precondition(lambda self: self.schedule.may_arrive)
    @rule()
    def arrive_wrong(self) -> None:
        self.sent.append(len(self.sent))
        self.schedule.arrive_answered((self.sent[-1], "refused"))

    @precondition(lambda self: self.schedule.may_start)
    @rule()
    def start(self) -> None:
        place = self.schedule.start()
        assert place.frame is not None
        self.at_work[place.frame] = place

    @precondition(lambda self: self.schedule.waiting is not None)
    @rule()
    def withdraw(self) -> None:
        place = self.schedule.withdraw()
        assert place.frame is not None
        self.schedule.answer(place, (place.frame, "too old"))

    @precondition(lambda self: self.at_work)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.at_work)))
        self.schedule.answer(self.at_work.pop(number), (number, "scene"))

    @precondition(lambda self: self.schedule.next_answer is not None)
    @rule()
    def take(self) -> None:
        answer = self.schedule.next_answer
        assert answer is not None
        self.taken.append(answer)
        self.schedule.taken()

    @invariant()
    def each_frame_is_answered_once_and_in_order(self) -> None:
        assert [number for number, _ in self.taken] == self.sent[: len(self.taken)]
        assert self.schedule.idle == (len(self.taken) == len(self.sent))

    @invariant()
    def memory_is_bounded(self) -> None:
        unanswered = len(self.sent) - len(self.taken)
        assert unanswered <= self.max_unanswered
        places = self.schedule._places
        assert len(places) == unanswered
        scenes = [place for place in places if place.answer is not None and place.answer[1] == "scene"]
        frames = [place for place in places if place.frame is not None]
        assert len(self.at_work) + len(scenes) <= self.max_in_flight
        assert len(frames) == len(self.at_work) + (self.schedule.waiting is not None)

    def teardown(self) -> None:
        """Whatever happened, everything ends answered."""
        if not hasattr(self, "schedule"):
            return
        while not self.schedule.idle:
            if self.schedule.next_answer is not None:
                self.take()
            elif self.at_work:
                number, place = self.at_work.popitem()
                self.schedule.answer(place, (number, "scene"))
            else:
                self.start()
        self.each_frame_is_answered_once_and_in_order()


TestStreaming = Streaming.TestCase
TestStreaming.settings = settings(max_examples=60, stateful_step_count=40)


def test_nobody_is_taken_where_nobody_waits() -> None:
    with pytest.raises(ValueError, match="no frame waits"):
        Schedule[int, int](1, 2).start()
