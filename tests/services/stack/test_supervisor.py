"""Processes of a stack are started, watched and stopped: real ones, also when their supervisor dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from services.stack import supervisor as module
from services.stack.layout import PROJECT, ProcessSpec
from services.stack.supervisor import StackError, Supervisor, interruptible, require_free
from tests.support.service import eventually
from tests.support.triton import free_ports

SLEEPS = "import time; print('at work', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
)
HEALTH = """
import grpc, sys, time
from concurrent.futures import ThreadPoolExecutor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
time.sleep(0.3)
server = grpc.server(ThreadPoolExecutor(2))
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port(sys.argv[1])
servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
server.start()
time.sleep(0.5)
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
server.wait_for_termination()
"""


def spec(name: str, program: str, *arguments: str, health: str | None = None) -> ProcessSpec:
    argv = [sys.executable, "-c", program, *arguments]
    return ProcessSpec(name, argv, {"PATH": os.environ["PATH"]}, PROJECT, health)


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be fetched does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_ready_is_what_health_says(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    ready = []
    with Supervisor([spec("worker", SLEEPS), spec("service", HEALTH, address, health=address)], tmp_path) as stack:
        stack.start(ready.append)
        assert stack.serves("service")
        pids = [stack.process(name).pid for name in ("worker", "service")]
        assert all(alive(pid) for pid in pids)
        stack.check()
    assert ready == ["worker", "service"]
    assert not any(alive(pid) for pid in pids)
    assert (tmp_path / "worker.log").read_text() == "at work\n"


def test_a_process_that_dies_at_its_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    dies = "import sys; [print(f'line {n}', flush=True) for n in range(100)]; sys.exit('no model here')"
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    with Supervisor([spec("worker", SLEEPS), spec("broken", dies, health=nobody)], tmp_path) as stack:
        with pytest.raises(StackError) as caught:
            stack.start()
        pid = stack.process("worker").pid
    message = str(caught.value)
    assert message.startswith("broken ended with status 1")
    assert "no model here" in message
    assert "line 99" in message
    assert "line 50" not in message, "the last lines are enough"
    assert str(tmp_path / "broken.log") in message
    assert not alive(pid)


def test_a_process_that_never_serves_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_SECONDS", 0.5)
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    with (
        Supervisor([spec("slow", SLEEPS, health=nobody)], tmp_path) as stack,
        pytest.raises(StackError, match=r"not serving after 0 s: slow(.|\n)*at work"),
    ):
        stack.start()


def test_a_process_that_is_lost_later_is_named(tmp_path: Path) -> None:
    with Supervisor([spec("one", SLEEPS), spec("two", SLEEPS)], tmp_path) as stack:
        stack.start()
        eventually(lambda: (tmp_path / "two.log").read_text() == "at work\n")
        stack.process("two").kill()
        stack.process("two").wait()
        with pytest.raises(StackError, match="two ended with status -9"):
            stack.check()
        # It can be started again, and its log goes on.
        stack.spawn("two")
        stack.check()
        eventually(lambda: (tmp_path / "two.log").read_text() == "at work\nat work\n")


def test_a_program_that_does_not_exist_leaves_nothing_running(tmp_path: Path) -> None:
    missing = ProcessSpec("missing", ["/no/such/program"], {}, PROJECT, None)
    pids = []
    refused = pytest.raises(StackError, match="missing: there is no program /no/such/program")
    with refused, Supervisor([spec("worker", SLEEPS), missing], tmp_path) as stack:
        try:
            stack.start()
        finally:
            pids.append(stack.process("worker").pid)
    assert not alive(pids[0])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_whatever_ends_the_block_nothing_is_left_running(tmp_path: Path, error: type[BaseException]) -> None:
    pids = []
    with pytest.raises(error), Supervisor([spec("one", SLEEPS), spec("two", SLEEPS)], tmp_path) as stack:  # noqa: PT012
        stack.start()
        pids += [stack.process(name).pid for name in ("one", "two")]
        raise error
    assert not any(alive(pid) for pid in pids)


def test_a_process_that_does_not_hear_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.5)
    with Supervisor([spec("deaf", STUBBORN), spec("worker", SLEEPS)], tmp_path) as stack:
        stack.start()
        eventually(lambda: "deaf" in (tmp_path / "deaf.log").read_text())
        processes = {name: stack.process(name) for name in ("deaf", "worker")}
    assert processes["deaf"].returncode == -signal.SIGKILL
    assert processes["worker"].returncode == -signal.SIGTERM


def test_a_new_stack_starts_with_empty_logs(tmp_path: Path) -> None:
    (tmp_path / "worker.log").write_text("of yesterday\n")
    with Supervisor([spec("worker", SLEEPS)], tmp_path):
        assert (tmp_path / "worker.log").read_text() == ""


SUPERVISOR = """
    import sys, time
    from pathlib import Path
    from tests.services.stack.test_supervisor import SLEEPS, spec
    from services.stack.supervisor import Supervisor, interruptible
    with interruptible(), Supervisor([spec("one", SLEEPS), spec("two", SLEEPS)], Path(sys.argv[1])) as stack:
        stack.start()
        print(*(stack.process(name).pid for name in ("one", "two")), flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_supervisor_that_is_told_to_end_or_killed_leaves_nothing_running(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SUPERVISOR), str(tmp_path)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ended:
        assert ended.stdout is not None
        pids = [int(pid) for pid in ended.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        ended.send_signal(number)
        ended.wait(30)
    eventually(lambda: not any(alive(pid) for pid in pids), seconds=10)


def test_sigterm_is_what_it_was_after_the_block() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the signal ends the block")
    assert signal.getsignal(signal.SIGTERM) is before


def test_ports_that_are_taken_are_named() -> None:
    free = free_ports(2)
    require_free(free)
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("0.0.0.0", 0)) as all_addresses:
        taken = [one.getsockname()[1], all_addresses.getsockname()[1]]
        with pytest.raises(StackError, match=f"ports already taken: {taken[0]}, {taken[1]}; choose others"):
            require_free([free[0], *taken, free[1]])
    # Free again at once, though connections to them may still linger.
    require_free(taken)
