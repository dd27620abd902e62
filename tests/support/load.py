"""Load on a gateway from several callers at once, and what became of every request."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from perception import TLS, PerceptionClient, PerceptionError

from tests.support.contract_models import picture
from tests.support.threads import in_threads


@dataclass
class Load:
    """Callers that perceive one picture after the other, from `with` on to its end.

    tls, token: how they show who they are. failures: what went wrong: a call that failed, or a task that failed behind
    one that did not.
    """

    address: str
    callers: int = 4
    tls: TLS | None = None
    token: str | None = None
    answered: int = 0
    slowest_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Load:
        self._lock = threading.Lock()
        with ExitStack() as stack:
            self._client = stack.enter_context(PerceptionClient(self.address, tls=self.tls, token=self.token))
            stack.enter_context(in_threads(*[self._call] * self.callers))
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _call(self, over: threading.Event) -> None:
        while not over.is_set():
            started = time.monotonic()
            problem = self._perceive()
            with self._lock:
                self.answered += 1
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - started)
                if problem:
                    self.failures.append(problem)

    def _perceive(self) -> str:
        try:
            scene = self._client.perceive(picture())
        except PerceptionError as error:
            return f"{error.code.name}: {error}"
        failed = [status for status in scene.task_status.values() if status.state not in ("OK", "SKIPPED")]
        return "; ".join(f"{status.code}: {status.reason}" for status in failed)
