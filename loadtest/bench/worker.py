"""A process in another Python environment that is asked and answers in lines of JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WORKERS = Path(__file__).parent / "workers"


class WorkerError(RuntimeError):
    """A worker ended without an answer; the message holds the end of what it said."""


class Worker:
    """A script of `workers/` that runs with some environment's Python. Use as a context manager."""

    def __init__(self, environment: Path, script: str, log: Path) -> None:
        """log: the file that what the worker prints on standard error goes to."""
        self._name = script
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(environment / "bin" / "python"), str(WORKERS / f"{script}.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request. Raises `WorkerError` where the worker ends instead."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        line = stdout.readline()
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self) -> WorkerError:
        last = self._log.read_text(errors="replace").splitlines()[-8:]
        return WorkerError("\n  ".join([f"{self._name} ended with status {self._process.wait()}", *last]))
