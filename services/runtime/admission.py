"""Which requests are taken on: not more than there is room for, and none whose deadline cannot be met any more.

What is refused costs next to nothing, so that a system of which ten times too much is asked goes on doing as much as it
can, instead of working on answers that come too late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.runtime.errors import DeadlineExceeded, Overloaded

_WEIGHT = 0.1
"""Of the newest request in the moving means: the last twenty or so count."""
_MARGIN = 1.2
"""Requests differ; with less than this many times the expected time left, most would be late."""
_TRIAL_EVERY = 20.0
"""Mean times of a request from one trial to the next."""
_LEAST_RETRY_SECONDS = 0.1
_MOST_RETRY_SECONDS = 5.0


class ServiceTime:
    """How long a request of one method takes, by how many are ahead of it.

    By Little's law requests that were taken on with so many others at work, and took so long, were each served in that
    time over that number; moving means of both give the time of one more. `ahead` times it is the wait, whatever the
    number of threads, models and replicas that do the work.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._places = 0.0

    @property
    def mean_seconds(self) -> float:
        """Of the last requests; 0 where there was none."""
        return self._seconds

    def expected(self, ahead: int) -> float:
        """Seconds that a request is going to take; 0 where nothing is known yet."""
        return self._seconds / self._places * (ahead + 1) if self._places else 0.0

    def learn(self, seconds: float, ahead: int) -> None:
        """A request that found so many ahead of it took so long."""
        weight = _WEIGHT if self._places else 1.0
        self._seconds += weight * (seconds - self._seconds)
        self._places += weight * (ahead + 1 - self._places)


class Admission:
    """Lets requests in. One for all methods of a server, of which each has its own service time.

    room: requests at work at once. heeds_deadlines: whether a request is refused that would be late.
    """

    def __init__(self, room: int, *, heeds_deadlines: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._room = room
        self._heeds_deadlines = heeds_deadlines
        self._clock = clock
        self._taken = 0
        self._methods: dict[str, _Method] = {}

    @contextmanager
    def admitted(self, method: str, remaining_seconds: float) -> Iterator[None]:
        """A request's place, for the time of its work. method: one that is served, so that there are not too many.

        Raises `Overloaded` where it gets none.
        """
        if self._taken == self._room:
            raise Overloaded(
                f"{self._room} requests are at work already", _LEAST_RETRY_SECONDS, "max_concurrent_requests"
            )
        known = self._methods.setdefault(method, _Method())
        ahead = known.at_work
        if self._heeds_deadlines:
            self._refuse_late(known, remaining_seconds)
        began = self._clock()
        self._taken += 1
        known.at_work += 1
        try:
            yield
        except (DeadlineExceeded, asyncio.CancelledError):
            # One that ran into its deadline took at least as long as this.
            seconds = self._clock() - began
            if seconds > known.time.expected(ahead) and seconds >= 0.9 * remaining_seconds:
                known.time.learn(seconds, ahead)
            raise
        else:
            known.time.learn(self._clock() - began, ahead)
        finally:
            self._taken -= 1
            known.at_work -= 1

    def _refuse_late(self, known: _Method, remaining_seconds: float) -> None:
        expected = _MARGIN * known.time.expected(known.at_work)
        if not known.at_work or expected <= remaining_seconds or self._tries(known, remaining_seconds):
            return
        retry = min(max(expected - remaining_seconds, _LEAST_RETRY_SECONDS), _MOST_RETRY_SECONDS)
        raise Overloaded(
            f"{known.at_work} requests are ahead: the answer would take {expected:.3f} s, "
            f"the deadline is in {remaining_seconds:.3f} s",
            retry,
            "admission_control",
        )

    def _tries(self, known: _Method, remaining_seconds: float) -> bool:
        """Whether one more is let in to see if more are served at once than the mean tells.

        Where requests are few at a time, nothing else would show it.
        """
        mean = known.time.mean_seconds
        if _MARGIN * mean > remaining_seconds or self._clock() - known.last_trial < _TRIAL_EVERY * mean:
            return False
        known.last_trial = self._clock()
        return True


class _Method:
    def __init__(self) -> None:
        self.time = ServiceTime()
        self.at_work = 0
        self.last_trial = float("-inf")
