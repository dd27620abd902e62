"""Keeps the processes of a running stack alive: what dies or hangs is started again, and both are said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from services.runtime.backoff import Backoff
from services.stack.supervisor import START_SECONDS, StackError, Supervisor

_FIRST_RESTART_SECONDS = 1.0
_MOST_RESTART_SECONDS = 30.0
_HUNG_SECONDS = 30.0
"""A process that was alive and says nothing for so long is killed; one that is only stopped for a while goes on."""
_ASK_SECONDS = 5.0
"""How often each process is asked whether it is alive."""


@dataclass(frozen=True)
class ProcessStatus:
    """One process as the keeper sees it.

    state: running, silent (it does not answer), or ended (it is going to be started again). since: when that began,
    ISO 8601. restarts: how often it was started again. reason: why, the last time; empty where it never was.
    """

    name: str
    pid: int
    state: str
    since: str
    restarts: int
    reason: str


class Keeper:
    """Starts what ended again, after a pause that grows while it keeps ending, and kills what hangs.

    supervisor: whose processes have all served. say: is told of every end and every start, in a sentence. status_file:
    holds a `ProcessStatus` of each process as JSON, for `perception status`.
    """

    def __init__(self, supervisor: Supervisor, say: Callable[[str], None], status_file: Path) -> None:
        self._supervisor = supervisor
        self._say = say
        self._status_file = status_file
        self._watched = [_Watched(name, supervisor) for name in supervisor.names]
        self._write()

    def look(self) -> None:
        """Looks at every process once, and does what is to be done now."""
        said = [sentence for watched in self._watched if (sentence := watched.look())]
        for sentence in said:
            self._say(sentence)
        if said:
            self._write()

    def _write(self) -> None:
        unfinished = self._status_file.with_suffix(".tmp")
        unfinished.write_text(json.dumps([asdict(watched.status()) for watched in self._watched]))
        unfinished.replace(self._status_file)


def read_status(status_file: Path) -> list[ProcessStatus]:
    """What a keeper last wrote."""
    return [ProcessStatus(**status) for status in json.loads(status_file.read_text())]


class _Watched:
    """One process, its restarts, and what is next for it."""

    def __init__(self, name: str, supervisor: Supervisor) -> None:
        self._name = name
        self._supervisor = supervisor
        self._backoff = Backoff(_FIRST_RESTART_SECONDS, _MOST_RESTART_SECONDS, Random())  # noqa: S311
        self._restarts = 0
        self._reason = ""
        self._state, self._since = "running", datetime.now(UTC)
        self._started = self._last_alive = time.monotonic()
        self._has_been_alive = True
        self._next_ask = 0.0
        self._restart_at: float | None = None

    def look(self) -> str:
        """What has changed, in a sentence; empty where nothing has."""
        if self._restart_at is not None:
            return self._start_again() if time.monotonic() >= self._restart_at else ""
        status = self._supervisor.process(self._name).poll()
        if status is not None:
            return self._ended(f"ended with status {status}")
        if time.monotonic() < self._next_ask:
            return ""
        return self._ask()

    def _ask(self) -> str:
        alive = self._supervisor.lives(self._name)
        now = time.monotonic()
        self._next_ask = now + _ASK_SECONDS
        if alive:
            self._last_alive, self._has_been_alive = now, True
            return f"{self._name} answers again" if self._turn("running") else ""
        if not self._has_been_alive and now - self._started < START_SECONDS:
            return ""  # it is starting
        if self._state == "running":
            self._turn("silent")
            return f"{self._name} does not answer"
        if now - self._last_alive < _HUNG_SECONDS:
            return ""
        return self._ended(f"did not answer for {now - self._last_alive:.0f} s and was killed")

    def _ended(self, reason: str) -> str:
        self._supervisor.end(self._name)
        self._backoff.worked(time.monotonic() - self._started)
        pause = self._backoff.next_seconds()
        self._restart_at = time.monotonic() + pause
        self._reason = reason
        self._turn("ended")
        return f"{self._name} {reason}; it is started again in {pause:.1f} s"

    def _start_again(self) -> str:
        try:
            self._supervisor.spawn(self._name)
        except (StackError, OSError) as error:
            return self._ended(f"cannot be started: {error}")
        self._restart_at = None
        self._restarts += 1
        self._started = self._last_alive = time.monotonic()
        self._has_been_alive = False
        self._turn("running")
        return f"{self._name} was started again (restart {self._restarts})"

    def _turn(self, state: str) -> bool:
        """Whether that is another state than before."""
        if state == self._state:
            return False
        self._state, self._since = state, datetime.now(UTC)
        return True

    def status(self) -> ProcessStatus:
        return ProcessStatus(
            self._name,
            self._supervisor.process(self._name).pid,
            self._state,
            self._since.isoformat(timespec="seconds"),
            self._restarts,
            self._reason,
        )
