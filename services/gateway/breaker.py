"""A circuit breaker for one task: what fails every time is left alone for a while, so that no frame waits for it.

Closed, every call goes through. After some failures in a row it opens, and calls are answered at once; after a pause
that grows while the task keeps failing, one call goes through to try (half-open), and closes it or opens it again
(M. Nygard, *Release It!*, 2007).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum, IntEnum
from random import Random

import grpc

from services.runtime import metrics
from services.runtime.backoff import Backoff

FAILURES_IN_A_ROW = 5
"""As many open it."""

LONGEST_PAUSE_SECONDS = 5.0
"""A task that works again is asked again within this time."""

_FIRST_PAUSE_SECONDS = 0.5

_CONCLUSIVE_SECONDS = 1.0
"""A task that does not answer within less may well be alive: callers choose their deadlines."""

_FAILURES = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNIMPLEMENTED})
"""What no picture of a caller's can bring about; one that the model fails on must not close the task to the others."""

log = logging.getLogger(__name__)


class State(IntEnum):
    """The numbers are those of `perception_task_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Verdict(Enum):
    """What a call says about the task."""

    WORKS = "it answered"
    FAILS = "it failed, and would fail for others"
    UNKNOWN = "nothing"

    @classmethod
    def of(cls, code: grpc.StatusCode, timeout_seconds: float) -> Verdict:
        """Of a call that ended with an error. timeout_seconds: the time that it had."""
        late = code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout_seconds >= _CONCLUSIVE_SECONDS
        return cls.FAILS if late or code in _FAILURES else cls.UNKNOWN


class Breaker:
    """Of one task, by name. clock: seconds that never go back."""

    def __init__(self, task: str, clock: Callable[[], float] = time.monotonic, random: Random | None = None) -> None:
        self._task = task
        self._clock = clock
        self._backoff = Backoff(_FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, random or Random())  # noqa: S311
        self._state = State.CLOSED
        self._failures = 0
        self._closed_since = clock()
        self._try_at = 0.0
        self._reason = ""
        metrics.TASK_BREAKER_STATE.labels(task).set(self._state)

    @property
    def state(self) -> State:
        """Open until a call was let through to try, however long the pause has been over."""
        return self._state

    @property
    def reason(self) -> str:
        """Why calls are refused."""
        return f"not asked after {FAILURES_IN_A_ROW} failures in a row, the last: {self._reason}"

    def admits(self) -> bool:
        """Whether a call may go through now. Who is let through tells how it ended by `ended`, whatever happens."""
        if self._state is State.OPEN and self._clock() >= self._try_at:
            self._turn(State.HALF_OPEN)
            return True
        return self._state is State.CLOSED

    def ended(self, verdict: Verdict, reason: str = "") -> None:
        """A call that was let through has ended."""
        if verdict is Verdict.WORKS:
            self._failures = 0
            if self._state is not State.CLOSED:
                self._closed_since = self._clock()
                self._turn(State.CLOSED)
        elif verdict is Verdict.FAILS:
            self._failures += 1
            self._reason = reason
            if self._state is State.HALF_OPEN or (self._state is State.CLOSED and self._failures >= FAILURES_IN_A_ROW):
                self._open()
        elif self._state is State.HALF_OPEN:
            # Nothing was learnt; the next call tries.
            self._turn(State.OPEN)

    def _open(self) -> None:
        if self._state is State.CLOSED:
            self._backoff.worked(self._clock() - self._closed_since)
        self._try_at = self._clock() + self._backoff.next_seconds()
        self._turn(State.OPEN)

    def _turn(self, state: State) -> None:
        if state is State.CLOSED or self._state is State.CLOSED:
            details = {"task": self._task, "breaker": state.name.lower(), "reason": self._reason}
            log.log(logging.INFO if state is State.CLOSED else logging.WARNING, "circuit breaker", extra=details)
        self._state = state
        metrics.TASK_BREAKER_STATE.labels(self._task).set(state)
