"""Starts the processes of a stack, waits until they serve, and stops every one of them again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path

from grpc_health.v1 import health_pb2

from services.runtime.ask_health import ask
from services.stack.layout import ProcessSpec

START_SECONDS = 120.0
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.1
_LAST_LINES = 15
_PATIENCE_SECONDS = 3.0
"""How long a process of a busy machine may take to say that it lives."""


class StackError(RuntimeError):
    """The stack cannot start or has lost a process; the message says which and what it last logged."""


class Supervisor:
    """The processes of one stack; `log_directory` holds a log for each.

    Use as a context manager: whatever way the block ends, nothing is left running.
    """

    def __init__(self, specs: Sequence[ProcessSpec], log_directory: Path) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._log_directory = log_directory
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: set[str] = set()

    def __enter__(self) -> Supervisor:
        self._log_directory.mkdir(parents=True, exist_ok=True)
        for spec in self._specs.values():
            self._log(spec.name).write_bytes(b"")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, on_ready: Callable[[str], None] = lambda name: None) -> None:
        """Starts every process and waits until all serve; `on_ready` hears of each.

        Raises `StackError` when a process ends or does not serve within `START_SECONDS`.
        """
        for name in self._specs:
            self.spawn(name)
        waiting = set(self._specs)
        end = time.monotonic() + START_SECONDS
        while waiting:
            self.check()
            for name in [name for name in self._specs if name in waiting and self.serves(name)]:
                waiting.discard(name)
                on_ready(name)
            if time.monotonic() > end:
                late = ", ".join(sorted(waiting))
                raise StackError(f"not serving after {START_SECONDS:.0f} s: {late}{self._last_logged(waiting)}")
            time.sleep(_POLL_SECONDS)

    def spawn(self, name: str) -> None:
        """Starts one process, without waiting for it. Raises `StackError` where its program does not exist."""
        spec = self._specs[name]
        if shutil.which(spec.argv[0]) is None:
            raise StackError(f"{name}: there is no program {spec.argv[0]}")
        spec.clear()
        self._ended.discard(name)
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*_dying_with_their_parent(), *spec.argv],
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C reaches the supervisor alone, which stops the processes in order.
                start_new_session=True,
            )

    @property
    def names(self) -> list[str]:
        """Every process, in the order in which they start."""
        return list(self._specs)

    def process(self, name: str) -> subprocess.Popen[bytes]:
        """A process that was started."""
        return self._running[name]

    def serves(self, name: str) -> bool:
        """Whether a process says that it serves; Triton, which has no health of that kind, when it runs."""
        address = self._specs[name].health
        if address is None:
            return self._running[name].poll() is None
        if address.startswith("http://"):
            return _answers(address)
        return ask(address, seconds=1) == "SERVING"

    def lives(self, name: str) -> bool:
        """Whether a process answers at all, however well its model is; one that cannot be asked does while it runs."""
        address = self._specs[name].liveness or self._specs[name].health
        if address is None:
            return self._running[name].poll() is None
        if address.startswith("http://"):
            return _answers(address, seconds=_PATIENCE_SECONDS)
        answers = health_pb2.HealthCheckResponse.ServingStatus.DESCRIPTOR.values_by_name
        return ask(address, seconds=_PATIENCE_SECONDS) in answers

    def check(self) -> None:
        """Raises `StackError` when a process has ended by itself."""
        for name, process in self._running.items():
            if process.poll() is not None:
                raise StackError(f"{name} ended with status {process.returncode}{self._last_logged([name])}")

    def end(self, name: str) -> None:
        """Kills a process, dead or alive, and what it has started: a killed Triton leaves its models' processes."""
        if name in self._ended:
            return  # its number may be another's by now
        process = self._running[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._ended.add(name)

    def stop(self) -> None:
        """Stops every process, callers before the called: SIGTERM, and SIGKILL where that is not enough."""
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
        for name in self._running:
            self.end(name)
            self._specs[name].clear()
        self._running.clear()

    def _log(self, name: str) -> Path:
        return self._log_directory / f"{name}.log"

    def _last_logged(self, names: Iterable[str]) -> str:
        parts = []
        for name in names:
            lines = self._log(name).read_text(errors="replace").splitlines()[-_LAST_LINES:]
            parts.append("".join(f"\n  {line}" for line in [f"{self._log(name)}:", *lines]))
        return "".join(parts)


def _answers(url: str, seconds: float = 1.0) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=seconds) as response:  # noqa: S310 - one of this machine's own pages
            return bool(response.status == HTTPStatus.OK)
    except OSError:
        return False


def _dying_with_their_parent() -> list[str]:
    """What a command begins with whose process is to end with this one; nothing where there is no such thing.

    A supervisor that is killed cannot stop what it started; Linux does it then. A program tells it so, because this
    process must not run code of its own between fork and exec: threads of gRPC may be at work.
    """
    program = shutil.which("setpriv") if sys.platform == "linux" else None
    return [program, "--pdeathsig", "TERM"] if program else []


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, SIGTERM ends the block as Ctrl-C does, so that what it started is stopped."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def require_free(ports: Iterable[int]) -> None:
    """Raises `StackError` naming the ports of this machine that something else listens on."""
    taken = [port for port in ports if not _is_free(port)]
    if taken:
        raise StackError(f"ports already taken: {', '.join(map(str, taken))}; choose others with PORT_BASE=…")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
