"""Processes are killed or stopped and links get worse while callers and cameras go on: nothing is lost silently.

A stack as `perception up` keeps it: Triton, the four tasks, the gateway and a camera agent, each hop over a proxy
(`tests/support/links.py`) that delays, holds back, loses or cuts what passes. `tc netem` would do so to packets; the
kernel that this was written on lacks it: `tc qdisc add dev lo root netem delay 1ms` says "Specified qdisc kind is
unknown". `make test-resilience` goes on for long and chooses at random; the short form does some of the worst. Checked:

- requests: each ends as a scene, whole or in part, or by an error after which to try again, and none later than its
  deadline;
- frames of a stream by the Python client: each is answered in its turn by a scene, a drop or such an error, or its call
  ends with such an error, which tells of it;
- frames of the agent's camera, while the agent lives: what the camera gave was sent or is counted as skipped, what was
  sent is perceived, dropped, an error or lost with its connection, and the answers in its file are these, by number;
- frames of an agent that is killed: those answered until then are in its file, with no more numbers missing than it
  called lost; what it sent in its last seconds the gateway has answered, or counted as abandoned;
- no scene is older than its deadline; all processes live at the end, and the keeper says which it started again.

What is printed is each task's availability, and how long each kind of harm was felt after its end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from services.stack.keeper import Keeper
from tests.resilience.account import availability, recoveries
from tests.resilience.agent import Agent, Counts, faults_of, without_answer
from tests.resilience.camera import Camera
from tests.resilience.conftest import SECONDS
from tests.resilience.harm import AGENT, Done, Harm, System, at_random, do_harm
from tests.resilience.offered import Offered, closed_loop
from tests.support.links import Links
from tests.support.stack import Stack
from tests.support.threads import in_threads

pytestmark = [pytest.mark.integration, pytest.mark.timeout(5 * SECONDS + 240)]

DEADLINE = 3.0
CALLERS = 2
MOST_OVERTIME = 5.0
"""A request ends at its deadline, told by a timer in its caller; a busy machine is late in looking at it."""
EVERY_SECONDS = 10.0 if SECONDS else 3.0
LASTING_SECONDS = 4.0 if SECONDS else 2.0
"""Of a stop, and of a fault of a link; the long one outlasts a request's deadline."""
ON_ITS_WAY = 2
"""Frames that a process had handed to its kernel when it was killed, and that the kernel then gave up."""

WORST = (
    Harm("kill", AGENT),
    Harm("kill", "semantic_segmentation model"),
    Harm("dropped", "gateway to detection"),
    Harm("stop", "triton"),
    Harm("kill", "gateway"),
)


@contextmanager
def kept(stack: Stack, directory: Path) -> Iterator[list[str]]:
    """Looks after the stack as `perception up` does; what the keeper says."""
    said: list[str] = []
    keeper = Keeper(stack.supervisor, said.append, directory / "processes.json")

    def look(over: threading.Event) -> None:
        while not over.wait(0.2):
            keeper.look()

    with in_threads(look):
        yield said


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
    seconds = 5 * SECONDS or EVERY_SECONDS * (len(WORST) + 1)
    harms = at_random(Random(1)) if SECONDS else iter(WORST)
    with Links() as links, Agent(tmp_path) as agent:
        system = System(contract_repository, tmp_path, links, agent)
        with system.stack as stack:
            camera = Camera(system.address)
            with kept(stack, tmp_path) as said:
                await whole_again(system.address)
                await agent.until_perceived()
                load, _, done = await asyncio.gather(
                    closed_loop(system.address, CALLERS, seconds, DEADLINE),
                    camera.stream(seconds),
                    do_harm(system, camera, harms, EVERY_SECONDS, seconds, LASTING_SECONDS),
                )
                back = await whole_again(system.address)
                counts = await agent.come_to_rest()
                lives = {name: stack.supervisor.process(name).poll() is None for name in stack.supervisor.names}
            stack.kill("triton")  # which takes its time where the process of a model has died
    print(report(system, load, camera, done, counts, back))
    assert done
    no_request_is_lost(load)
    no_frame_of_the_client_is_lost(camera)
    no_frame_of_the_agent_is_lost(agent, counts)
    no_frame_of_a_killed_agent_is_lost(system)
    assert all(lives.values()), lives
    for name in {one.harm.target for one in done if one.harm.deed == "kill" and " " not in one.harm.target}:
        assert any(f"{name} was started again" in sentence for sentence in said), said


def no_request_is_lost(load: Offered) -> None:
    assert not load.unaccounted
    assert load.longest < MOST_OVERTIME
    assert load.results["whole"]


def no_frame_of_the_client_is_lost(camera: Camera) -> None:
    assert not camera.wrong
    assert camera.results.total() == camera.sent


def no_frame_of_the_agent_is_lost(agent: Agent, counts: Counts) -> None:
    """Of its last life, whose source has ended and whose frames are all answered."""
    assert counts.unanswered == 0, counts
    assert counts.sent + counts.results["skipped"] in agent.captured(), (agent.captured(), counts)
    answers = agent.lives()[-1]
    told = [counts.results[result] for result in ("perceived", "dropped", "error")]
    assert [sum(one["result"] == kind for one in answers) for kind in ("scene", "dropped", "error")] == told
    numbers = [answer["sequence"] for answer in answers]
    assert numbers == sorted(set(numbers))
    assert counts.sent == len(numbers) + counts.results["lost"]


def no_frame_of_a_killed_agent_is_lost(system: System) -> None:
    lives = system.agent.lives()
    assert not [fault for life in lives for fault in faults_of(life, MOST_OVERTIME)]
    assert len(lives) == len(system.kills_of_agent) + 1
    for killed, life in zip(system.kills_of_agent, lives, strict=False):
        assert killed.counts.unanswered >= 0
        assert without_answer(life) <= killed.counts.results["lost"], killed
        if killed.accounted is not None:
            assert killed.watched <= killed.accounted + ON_ITS_WAY, killed
    if not SECONDS:  # it is the first to be killed, when all is well
        assert system.kills_of_agent[0].accounted is not None


def report(system: System, load: Offered, camera: Camera, done: list[Done], counts: Counts, back: float) -> str:
    frames = [answer for life in system.agent.lives() for answer in life]
    killed = [
        f"  killed: {one.counts}; of the last {one.watched} sent the gateway knows {one.accounted}"
        for one in system.kills_of_agent
    ]
    return "\n".join(
        [
            "",
            ", ".join(f"{one.harm.deed} {one.harm.target}" for one in done),
            f"{len(load.ended)} requests: {dict(load.results)}, the latest {load.longest:.2f} s past its deadline",
            f"{camera.sent} frames of the client over {camera.calls} calls: {dict(camera.results)}",
            f"{len(frames)} answers to the agent; its last life: {counts}",
            *killed,
            f"wrong: {camera.wrong}, {load.unaccounted[:3]}",
            "availability:",
            availability(load, CALLERS, frames),
            f"recovery, and {back:.1f} s after the end:",
            recoveries(done, load, frames),
        ]
    )
