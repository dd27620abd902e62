"""What dies or hangs is started again: real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.stack import keeper as module
from services.stack.keeper import Keeper, ProcessStatus, read_status
from services.stack.supervisor import Supervisor
from tests.services.stack.test_supervisor import HEALTH, SLEEPS, spec
from tests.support.service import eventually
from tests.support.triton import free_ports

DIES = "raise SystemExit(3)"
HAS_A_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"


class Kept:
    """A keeper of two processes, what it says, and what it writes."""

    def __init__(self, supervisor: Supervisor, folder: Path) -> None:
        self.supervisor = supervisor
        self.said: list[str] = []
        self._file = folder / "processes.json"
        self._keeper = Keeper(supervisor, self.said.append, self._file)

    def says(self, words: str) -> bool:
        self._keeper.look()
        return any(words in sentence for sentence in self.said)

    def status(self, name: str) -> ProcessStatus:
        return next(status for status in read_status(self._file) if status.name == name)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    monkeypatch.setattr(module, "_FIRST_RESTART_SECONDS", 0.05)
    monkeypatch.setattr(module, "_ASK_SECONDS", 0.1)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with Supervisor([spec("worker", SLEEPS), spec("service", HEALTH, address, health=address)], tmp_path) as running:
        running.start()
        yield Kept(running, tmp_path)


def test_what_was_killed_is_started_again_and_nothing_else(kept: Kept) -> None:
    worker = kept.supervisor.process("worker").pid
    kept.supervisor.process("service").kill()
    eventually(lambda: kept.says("service ended with status -9"))
    eventually(lambda: kept.says("service was started again (restart 1)"))
    eventually(lambda: kept.supervisor.serves("service"))
    assert kept.supervisor.process("worker").pid == worker
    service = kept.status("service")
    assert (service.state, service.restarts, service.reason) == ("running", 1, "ended with status -9")
    assert service.pid == kept.supervisor.process("service").pid
    assert (kept.status("worker").restarts, kept.status("worker").reason) == (0, "")


def test_what_hangs_for_a_while_goes_on_and_what_hangs_for_long_is_started_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = kept.supervisor.process("service")
    first.send_signal(signal.SIGSTOP)
    eventually(lambda: kept.says("service does not answer"))
    assert kept.status("service").state == "silent"
    first.send_signal(signal.SIGCONT)
    eventually(lambda: kept.says("service answers again"))
    assert kept.status("service").restarts == 0
    monkeypatch.setattr(module, "_HUNG_SECONDS", 0.5)
    first.send_signal(signal.SIGSTOP)
    eventually(lambda: kept.says("and was killed"))
    eventually(lambda: kept.says("restart 1"))
    eventually(lambda: kept.supervisor.serves("service"))
    assert first.returncode == -signal.SIGKILL


def test_what_a_killed_process_had_started_ends_with_it(tmp_path: Path) -> None:
    with Supervisor([spec("parent", HAS_A_CHILD)], tmp_path) as running:
        running.spawn("parent")
        kept = Kept(running, tmp_path)
        parent = psutil.Process(running.process("parent").pid)
        eventually(parent.children)
        child = parent.children()[0]
        parent.kill()
        eventually(lambda: kept.says("parent ended with status -9"))
        eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_what_keeps_ending_is_tried_ever_more_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_RESTART_SECONDS", 0.01)
    with Supervisor([spec("broken", DIES)], tmp_path) as running:
        running.spawn("broken")
        kept = Kept(running, tmp_path)
        eventually(lambda: kept.says("restart 5"))
        pauses = [float(sentence.split()[-2]) for sentence in kept.said if "ended with status 3" in sentence]
        assert len(pauses) == 5
        assert kept.status("broken").restarts == 5
        # The pauses are random below a bound that doubles.
        assert all(pause <= 0.01 * 2**number + 0.05 for number, pause in enumerate(pauses))
