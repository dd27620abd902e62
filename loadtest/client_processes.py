"""The client processes of a measurement, seen from the one that starts them."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import IO, Any, Self

from loadtest.client import DONE, Job
from loadtest.plan import Plan

_READY_SECONDS = 60.0
_LAST_LINES = 5


class LoadError(RuntimeError):
    """The load cannot be made; the message says why."""


class Clients:
    """Processes that share the load of a plan. Use as a context manager: none of them outlives the block."""

    def __init__(self, plan: Plan, frames: Sequence[Path]) -> None:
        self._jobs = [Job(plan=plan, process=number, frames=tuple(frames)) for number in range(plan.processes)]
        self._processes: list[subprocess.Popen[str]] = []
        self._listeners: list[threading.Thread] = []
        self._told: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._talking: set[int] = set()
        self._in_flight: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="loadtest-")
        try:
            for job in self._jobs:
                self._spawn(job)
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def pids(self) -> list[int]:
        """Their ids."""
        return [process.pid for process in self._processes]

    @property
    def in_flight(self) -> int:
        """Frames without an answer, as last told."""
        return sum(self._in_flight.values())

    @property
    def done(self) -> bool:
        """Whether all have told everything."""
        return not self._talking

    def start(self, begin: float) -> None:
        """Lets them begin at a moment of the monotonic clock."""
        for process in self._processes:
            stdin = _pipe(process.stdin)
            stdin.write(f"{begin!r}\n")
            stdin.flush()

    def told(self, until: float) -> Iterator[dict[str, Any]]:
        """What they tell until a moment of the monotonic clock, or until one is done: tallies with `in_flight`.

        Raises `LoadError` where a process fails.
        """
        while (seconds := until - monotonic()) > 0:
            try:
                number, said = self._told.get(timeout=seconds)
            except queue.Empty:
                return
            if said is None:
                raise self._failure(number)
            if said == DONE:
                self._talking.discard(number)
                return
            self._in_flight[number] = said["in_flight"]
            yield said

    def _spawn(self, job: Job) -> None:
        file = Path(self._folder.name) / f"{job.process}.json"
        file.write_text(job.model_dump_json())
        with self._log(job.process).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "loadtest.client", str(file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for whoever started them, who ends them
            )
        self._processes.append(process)
        self._talking.add(job.process)
        self._listeners.append(threading.Thread(target=self._listen, args=(job.process, process), daemon=True))
        self._listeners[-1].start()

    def _listen(self, number: int, process: subprocess.Popen[str]) -> None:
        with _pipe(process.stdout) as lines:
            for line in lines:
                self._told.put((number, json.loads(line)))
        self._told.put((number, None))

    def _wait_until_ready(self) -> None:
        end = monotonic() + _READY_SECONDS
        for _ in self._processes:
            try:
                number, said = self._told.get(timeout=end - monotonic())
            except (queue.Empty, ValueError):
                raise LoadError(f"the client processes are not ready after {_READY_SECONDS:.0f} s") from None
            if said is None:
                raise self._failure(number)

    def _failure(self, number: int) -> LoadError:
        status = self._processes[number].wait()
        last = " ".join(self._log(number).read_text(errors="replace").splitlines()[-_LAST_LINES:])
        return LoadError(f"a client process ended with status {status}: {last}")

    def _log(self, number: int) -> Path:
        return Path(self._folder.name) / f"{number}.log"

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            _pipe(process.stdin).close()
        for listener in self._listeners:
            listener.join()
        self._folder.cleanup()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the process was started without this pipe")
    return pipe
