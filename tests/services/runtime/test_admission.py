"""Which requests are taken on, in a simulated service: a queue before some workers, on a clock of the test's."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from random import Random

import pytest

from services.runtime.admission import Admission, ServiceTime
from services.runtime.errors import DeadlineExceeded, Overloaded

METHOD = "/perception.v1.DetectionService/Detect"


@dataclass
class Simulation:
    """Requests that come at random, one queue, workers that take `seconds` each, a fifth more or less.

    A worker does not begin on a request whose deadline has passed, as the services do, and finishes what it has begun.
    """

    rate: float
    workers: int
    seconds: float
    deadline: float
    heeds_deadlines: bool
    room: int = 64
    random: Random = field(default_factory=lambda: Random(1))
    now: float = 0.0
    in_time: int = 0
    late: int = 0
    refused: int = 0

    def run(self, until: float) -> Simulation:
        admission = Admission(self.room, heeds_deadlines=self.heeds_deadlines, clock=lambda: self.now)
        queue: deque[tuple[float, AbstractContextManager[None]]] = deque()
        ends: list[tuple[float, int, float, AbstractContextManager[None]]] = []
        arrival, number = 0.0, 0
        while arrival < until:
            if ends and ends[0][0] < arrival:
                self.now, _, came, place = heapq.heappop(ends)
                self._end(place, came)
            else:
                self.now = arrival
                arrival += self.random.expovariate(self.rate)
                place = admission.admitted(METHOD, self.deadline)
                try:
                    place.__enter__()
                    queue.append((self.now, place))
                except Overloaded as refusal:
                    assert refusal.retry_after_seconds
                    self.refused += 1
            while queue and len(ends) < self.workers:
                came, place = queue.popleft()
                number += 1
                if self.now - came > self.deadline:
                    self._end(place, came)
                else:
                    took = self.seconds * self.random.uniform(0.8, 1.2)
                    heapq.heappush(ends, (self.now + took, number, came, place))
        return self

    def _end(self, place: AbstractContextManager[None], came: float) -> None:
        if self.now - came <= self.deadline:
            self.in_time += 1
            place.__exit__(None, None, None)
            return
        self.late += 1
        error = DeadlineExceeded("inference")
        with suppress(DeadlineExceeded):
            place.__exit__(DeadlineExceeded, error, None)


def refused(words: str) -> AbstractContextManager[object]:
    return pytest.raises(Overloaded, match=words)


@pytest.mark.parametrize(("workers", "seconds"), [(1, 0.05), (2, 0.1), (8, 0.4), (16, 0.2)])
@pytest.mark.parametrize("deadlines", [2.5, 5.0, 20.0])
def test_goodput_stays_at_capacity_when_ten_times_as_much_is_offered(
    workers: int, seconds: float, deadlines: float
) -> None:
    """The deadline is so many times what a request takes alone."""
    capacity = workers / seconds
    simulated = Simulation(10 * capacity, workers, seconds, deadlines * seconds, heeds_deadlines=True).run(
        200 * seconds
    )
    assert simulated.in_time > 0.9 * capacity * 200 * seconds, simulated
    assert simulated.late < 0.1 * simulated.in_time, simulated


def test_without_it_nearly_all_answers_come_too_late() -> None:
    """That is what it is for."""
    with_it, without = (Simulation(200, 1, 0.05, 0.5, heeds_deadlines=heeds).run(30) for heeds in (True, False))
    assert without.in_time < 0.5 * with_it.in_time
    assert without.late > 10 * with_it.late


@pytest.mark.parametrize("deadline", [0.01, 0.1, 10.0])
def test_nothing_is_refused_while_nothing_is_at_work(deadline: float) -> None:
    now = 0.0
    admission = Admission(1, clock=lambda: now)
    for _ in range(20):
        with admission.admitted(METHOD, deadline):
            now += 1.0


def test_a_service_that_was_slow_is_soon_trusted_again() -> None:
    now = 0.0
    admission = Admission(64, clock=lambda: now)
    for _ in range(100):
        with admission.admitted(METHOD, 100.0):
            now += 10.0
    for _ in range(60):  # three seconds
        with admission.admitted(METHOD, 1.0):
            now += 0.05
    with admission.admitted(METHOD, 1.0), admission.admitted(METHOD, 1.0), admission.admitted(METHOD, 1.0):
        pass


@pytest.mark.parametrize("ended", [ValueError, asyncio.CancelledError, DeadlineExceeded])
def test_what_ends_early_says_nothing_of_the_time_and_gives_its_place_back(ended: type[BaseException]) -> None:
    """Or callers with deadlines of a millisecond would make the service look fast, and broken pictures too."""
    now = 0.0
    admission = Admission(2, clock=lambda: now)
    with admission.admitted(METHOD, 10.0):
        now += 1.0
    for _ in range(50):
        with suppress(ended), admission.admitted(METHOD, 0.001):
            now += 0.001
            raise ended("inference")
    with admission.admitted(METHOD, 1.1), refused("1 requests are ahead"), admission.admitted(METHOD, 1.1):
        pass


def test_methods_have_their_own_times_and_share_the_room() -> None:
    now = 0.0
    admission = Admission(2, clock=lambda: now)
    with admission.admitted(METHOD, 10.0):
        now += 1.0
    one, other = admission.admitted(METHOD, 10.0), admission.admitted("/perception.v1.ModelService/DescribeModel", 0.1)
    with one, other, refused("2 requests are at work already"), admission.admitted(METHOD, 10.0):
        pass


def test_the_time_of_one_more_is_what_one_took_behind_so_many() -> None:
    time = ServiceTime()
    assert time.expected(63) == 0.0
    for _ in range(100):
        time.learn(0.8, ahead=7)
    assert time.expected(0) == pytest.approx(0.1)
    assert time.expected(15) == pytest.approx(1.6)
