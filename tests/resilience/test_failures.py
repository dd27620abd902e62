"""Processes are killed and stopped while callers go on: nothing is lost silently, nothing hangs, no hand restarts.

A stack as `perception up` keeps it, with Triton, the four tasks and the gateway. `make test-resilience` goes on for
long and chooses at random; the short form does three of the worst.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from services.stack.keeper import Keeper
from tests.resilience.camera import Camera
from tests.resilience.conftest import SECONDS
from tests.resilience.offered import Offered, closed_loop
from tests.support.contract_models import TASKS
from tests.support.stack import TAXONOMY, Stack
from tests.support.triton import stub_processes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(5 * SECONDS + 240)]

DEADLINE = 3.0
MOST_OVERTIME = 5.0
"""A request ends at its deadline, told by a timer in its caller; a busy machine is late in looking at it."""
EVERY_SECONDS = 10.0 if SECONDS else 3.0
STOPPED_SECONDS = 2.0

Harm = tuple[str, str]
"""What is done, to which process: kill, or stop for a while. A task's `model` is its process inside Triton."""

WORST: tuple[Harm, ...] = (
    ("kill", "semantic_segmentation model"),
    ("stop", "triton"),
    ("kill", "gateway"),
)
ALL: tuple[Harm, ...] = tuple(
    (deed, name) for deed in ("kill", "stop") for name in ("triton", *TASKS, "gateway", *(f"{t} model" for t in TASKS))
)


@contextmanager
def kept(stack: Stack, directory: Path) -> Iterator[list[str]]:
    """Looks after the stack as `perception up` does; what the keeper says."""
    said: list[str] = []
    over = threading.Event()
    keeper = Keeper(stack.supervisor, said.append, directory / "processes.json")

    def look() -> None:
        while not over.wait(0.2):
            keeper.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join()


def process_of(stack: Stack, name: str) -> int | None:
    """The process, or none where it is dead already."""
    process = stack.supervisor.process("triton" if name.endswith(" model") else name)
    if process.poll() is not None:
        return None
    return stub_processes(process.pid, TASKS).get(name.removesuffix(" model")) if " " in name else process.pid


async def harm(stack: Stack, deed: str, name: str) -> None:
    pid = process_of(stack, name)
    if pid is None:
        return
    if deed == "kill":
        os.kill(pid, signal.SIGKILL)
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STOPPED_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)


def harms() -> Iterator[Harm]:
    if not SECONDS:
        yield from WORST
        return
    random = Random(1)
    while True:
        yield random.choice(ALL)


async def do_harm(stack: Stack, seconds: float) -> list[Harm]:
    """Every so often, until so many seconds have passed."""
    done: list[Harm] = []
    end = time.monotonic() + seconds
    for deed, name in harms():
        await asyncio.sleep(EVERY_SECONDS / 2)
        await harm(stack, deed, name)
        done.append((deed, name))
        await asyncio.sleep(EVERY_SECONDS / 2)
        if time.monotonic() + EVERY_SECONDS > end:
            break
    return done


async def whole_again(address: str) -> float:
    """Seconds until three scenes in a row are whole."""
    began = time.monotonic()
    row = 0
    while row < 3:
        offered = await closed_loop(address, 1, 0.01, DEADLINE)
        row = row + 1 if offered.results["whole"] else 0
        assert time.monotonic() - began < 90, offered.ended
    return time.monotonic() - began


async def test_nothing_is_lost_and_all_comes_back(
    triton_environment: Path, contract_repository: Path, tmp_path: Path
) -> None:
    taxonomy = tmp_path / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    seconds = 5 * SECONDS or EVERY_SECONDS * (len(WORST) + 1) + STOPPED_SECONDS
    with Stack(contract_repository, str(taxonomy), "triton", tmp_path) as stack:
        camera = Camera(stack.address)
        with kept(stack, tmp_path) as said:
            await whole_again(stack.address)
            load, _, done = await asyncio.gather(
                closed_loop(stack.address, 2, seconds, DEADLINE), camera.stream(seconds), do_harm(stack, seconds)
            )
            back = await whole_again(stack.address)
            lives = {name: stack.supervisor.process(name).poll() is None for name in stack.supervisor.names}
        stack.kill("triton")  # which takes its time where the process of a model has died
    words = report(load, camera, done, back)
    print(words)
    assert not load.unaccounted, words
    assert load.longest < MOST_OVERTIME, words
    assert not camera.wrong, words
    assert camera.results.total() == camera.sent, words
    assert load.results["whole"], words
    assert all(lives.values()), lives
    killed = {name for deed, name in done if deed == "kill" and " " not in name}
    for name in killed:
        assert any(f"{name} was started again" in sentence for sentence in said), said


def report(load: Offered, camera: Camera, done: list[Harm], back: float) -> str:
    return (
        f"\n{', '.join(' '.join(one) for one in done)}\n"
        f"{len(load.ended)} requests: {dict(load.results)}, the latest {load.longest:.2f} s past its deadline; "
        f"{camera.sent} frames over {camera.calls} calls: {dict(camera.results)}; wrong: {camera.wrong}, "
        f"{load.unaccounted[:3]}\nin the scenes: {load.availability()}; whole again {back:.1f} s after the end"
    )
