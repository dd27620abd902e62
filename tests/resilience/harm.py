"""What is done to a running system, one thing after the other: a process is killed or stopped, or a link gets worse."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

import grpc
import psutil

from services.stack.layout import Ports, ProcessSpec
from tests.resilience.agent import Agent, Counts, scraped
from tests.resilience.camera import Camera
from tests.support.contract_models import TASKS
from tests.support.links import FAULTS, Fault, Links
from tests.support.stack import TAXONOMY, Stack
from tests.support.triton import stub_processes
from tests.support.waiting import until

AGENT = "camera"
CALLERS = "callers to gateway"
AGENTS_LINK = "camera to gateway"
LINKS = (CALLERS, AGENTS_LINK, *(f"gateway to {task}" for task in TASKS), *(f"{task} to triton" for task in TASKS))
PROCESSES = ("triton", *TASKS, "gateway", AGENT, *(f"{task} model" for task in TASKS))
"""A task's `model` is its process inside Triton."""

_WATCHED_SECONDS = 2.0
_GONE_SECONDS = 5.0
_BOTH_CAMERAS = 2
"""Streams at the gateway: of the agent and of the Python client."""


@dataclass(frozen=True)
class Harm:
    """What is done to whom: kill or stop a process, or a fault to a link."""

    deed: str
    target: str

    @property
    def kind(self) -> str:
        """The same of all tasks, of all their models, and of all links."""
        if self.deed in FAULTS:
            return f"{self.deed} link"
        of_task = {f"{task}{word}": f"task{word}" for task in TASKS for word in ("", " model")}
        return f"{self.deed} {of_task.get(self.target, self.target)}"


@dataclass(frozen=True)
class Done:
    """Harm that was done. began, ended: seconds of the monotonic clock; a kill ends as it begins."""

    harm: Harm
    began: float
    ended: float


@dataclass(frozen=True)
class AgentKilled:
    """What was known of a camera agent when it was killed.

    counts: what it said last. watched: frames that it sent in the seconds before; accounted: those that the gateway
    answered since then, or counted as abandoned, at most; None where another stream or gateway was not well either.
    """

    counts: Counts
    watched: int
    accounted: int | None


@dataclass(frozen=True)
class _Frames:
    """What a gateway says of its streams' frames: how many were answered or abandoned."""

    process: int
    streams: int
    ended: int


class System:
    """A stack with a camera agent, every hop over a link. address: of the gateway, over the callers' link."""

    def __init__(self, repository: Path, directory: Path, links: Links, agent: Agent) -> None:
        taxonomy = directory / "contract.yaml"
        taxonomy.write_text(TAXONOMY)
        self.agent = agent
        self.kills_of_agent: list[AgentKilled] = []
        self._links = links
        self.stack = Stack(repository, str(taxonomy), "triton", directory, self._over_links)
        self.address = self._linked(CALLERS, self.stack.ports.gateway)

    def _over_links(self, ports: Ports, specs: list[ProcessSpec]) -> list[ProcessSpec]:
        def addresses(name: str) -> dict[str, str]:
            if name in TASKS:
                return {"TRITON_URL": self._linked(f"{name} to triton", ports.triton.grpc)}
            if name == "gateway":
                return {f"{task.upper()}_URL": self._linked(f"gateway to {task}", ports.task(task)) for task in TASKS}
            return {}

        agent = self.agent.spec(ports, self._linked(AGENTS_LINK, ports.gateway))
        return [*(replace(spec, env={**spec.env, **addresses(spec.name)}) for spec in specs), agent]

    def _linked(self, name: str, port: int) -> str:
        return f"127.0.0.1:{self._links.make(name, port)}"

    async def suffer(self, harm: Harm, seconds: float, camera: Camera) -> Done | None:
        """Does harm, for so long where it is none for ever; None where that process is dead already."""
        if harm.deed in FAULTS:
            began = time.monotonic()
            with self._links.worse(harm.target, cast("Fault", harm.deed)):
                await asyncio.sleep(seconds)
            return Done(harm, began, time.monotonic())
        process = self._process(harm.target)
        if process is None:
            return None
        if harm.deed == "stop":
            began = time.monotonic()
            with _stopped(process):
                await asyncio.sleep(seconds)
            return Done(harm, began, time.monotonic())
        if harm.target == AGENT:
            return await self._kill_agent(harm, process, camera)
        os.kill(process, signal.SIGKILL)
        return Done(harm, time.monotonic(), time.monotonic())

    def _process(self, name: str) -> int | None:
        process = self.stack.supervisor.process("triton" if name.endswith(" model") else name)
        if process.poll() is not None:
            return None
        return stub_processes(process.pid, TASKS).get(name.removesuffix(" model")) if " " in name else process.pid

    async def _kill_agent(self, harm: Harm, process: int, camera: Camera) -> Done | None:
        """Kills the agent, and asks the gateway for the frames that it sent in the seconds before."""
        before = await self._frames()
        sent_before, calls = camera.sent, camera.calls
        try:
            first = await self.agent.counts()
            await asyncio.sleep(_WATCHED_SECONDS)
            last = await self.agent.counts()
        except (OSError, grpc.RpcError):
            return None  # it is only starting
        # What the other camera sent since, and has answers to, is not the agent's.
        others = max(0, camera.results.total() - sent_before)
        os.kill(process, signal.SIGKILL)
        done = Done(harm, time.monotonic(), time.monotonic())
        await until(partial(_has_ended, process))
        self.agent.was_killed()
        after = await self._without_agent(before)
        accounted = after.ended - before.ended - others if before and after and camera.calls == calls else None
        self.kills_of_agent.append(AgentKilled(last, last.sent - first.sent, accounted))
        return done

    async def _without_agent(self, before: _Frames | None) -> _Frames | None:
        """What the gateway says once the agent's stream is closed, and before there is another one."""
        end = time.monotonic() + _GONE_SECONDS
        while before is not None and before.streams == _BOTH_CAMERAS and time.monotonic() < end:
            now = await self._frames()
            if now is None or now.process != before.process:
                break
            if now.streams < _BOTH_CAMERAS:
                return now
            await asyncio.sleep(0.05)
        return None

    async def _frames(self) -> _Frames | None:
        """None where the gateway does not answer."""
        process = self.stack.supervisor.process("gateway").pid
        try:
            found = await asyncio.to_thread(scraped, self.stack.ports.metrics("gateway"))
        except OSError:
            return None
        total = Counter[str]()
        for sample in found:
            total[sample.name] += int(sample.value)
        ended = total["perception_stream_frames_total"] + total["perception_stream_frames_abandoned_total"]
        return _Frames(process, total["perception_streams"], ended)


async def _has_ended(process: int) -> bool:
    return not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE


@contextmanager
def _stopped(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def at_random(random: Random) -> Iterator[Harm]:
    """A third each kills, stops, and faults of links, for ever; nothing twice before everything of its third came."""

    def shuffled(deeds: Iterable[str], targets: Iterable[str]) -> Iterator[Harm]:
        targets = list(targets)
        harms = [Harm(deed, target) for deed in deeds for target in targets]
        while True:
            yield from random.sample(harms, len(harms))

    thirds = [shuffled(["kill"], PROCESSES), shuffled(["stop"], PROCESSES), shuffled(FAULTS, LINKS)]
    while True:
        for third in random.sample(thirds, len(thirds)):
            yield next(third)


async def do_harm(
    system: System, camera: Camera, harms: Iterator[Harm], every_seconds: float, seconds: float, lasting: float
) -> list[Done]:
    """One harm every so many seconds, until so many seconds have passed. lasting: seconds of a stop or fault."""
    done: list[Done] = []
    began = time.monotonic()
    for harm in harms:
        due = began + (len(done) + 0.5) * every_seconds
        if due + lasting > began + seconds:
            break
        await asyncio.sleep(due - time.monotonic())
        if (one := await system.suffer(harm, lasting, camera)) is not None:
            done.append(one)
    return done
