"""Cameras of thirty frames a second before a real Triton that does two: answers stay fresh, and nothing grows.

Some seconds each. What is promised is five minutes, which this tries, once by a client and once by an agent, and prints
the figures:

    STREAM_SECONDS=300 .venv/bin/pytest -s tests/integration/test_slow_triton.py
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import simplejpeg
from perception import PerceptionClient

from tests.services.camera.sources import write_film
from tests.support.camera_agent import AgentProcess
from tests.support.cameras import ages, film, frame, in_words, jain_index
from tests.support.contract_models import picture, write_throttled_model
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.service import ServiceProcess
from tests.support.stack import TAXONOMY
from tests.support.triton import TritonServer

SECONDS = float(os.environ.get("STREAM_SECONDS", "12"))
FRAMES_PER_SECOND = 30
SERVICE_SECONDS = 0.5
WARM_UP_SCENES = 5
MOST_GROWTH_MEGABYTES = 8

pytestmark = [pytest.mark.integration, pytest.mark.timeout(SECONDS + 120)]

Gateways = Callable[[float], ServiceProcess]


@pytest.fixture(scope="module")
def gateways(start_triton: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateways]:
    """Gateways as they come, before a detection service whose model in Triton takes so many seconds for a picture."""
    directory = tmp_path_factory.mktemp("slow")
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    with ExitStack() as stack:

        @cache
        def start(seconds: float) -> ServiceProcess:
            repository = directory / str(seconds)
            write_throttled_model(repository, seconds)
            triton = start_triton(repository, ["detection"])
            detection = ServiceProcess("detection", directory, ENGINE="triton", TRITON_URL=triton.url)
            stack.enter_context(detection).wait_until_ready()
            gateway = ServiceProcess("gateway", directory, DETECTION_URL=detection.address, TAXONOMY=taxonomy)
            return stack.enter_context(gateway).wait_until_ready()

        yield start


@pytest.fixture
def gateway(gateways: Gateways) -> ServiceProcess:
    """The gateway before two frames a second."""
    return gateways(SERVICE_SECONDS)


def seconds_alone(client: PerceptionClient) -> float:
    """How long a frame takes when there is no other: the median of five."""
    found = []
    for _ in range(5):
        started = time.monotonic()
        scene = client.perceive(picture())
        found.append(time.monotonic() - started)
        assert [segment.category for segment in scene.panoptic.segments] == ["green"]
    return statistics.median(found)


def check_freshness(scenes: list[tuple[float, float]], alone: float, frames_in_flight: int = 1) -> str:
    """The newest scene is never as old as three frames take, or one more for a second frame in flight.

    scenes: taken and answered, see `ages`. alone: seconds for a frame when there is no other. A frame takes the longer
    of that and of the pace at which scenes came, because the machine's speed varies.
    """
    scenes = scenes[WARM_UP_SCENES:]
    pace = (scenes[-1][1] - scenes[0][1]) / (len(scenes) - 1)
    answered, newest = ([age / max(alone, pace) for age in found] for found in ages(scenes))
    words = (
        f"a frame alone takes {alone:.3f} s, scenes came every {pace:.3f} s; age / time of a frame: "
        f"{in_words(answered)} when answered, {in_words(newest)} before the next answer"
    )
    assert max(newest) < 2 + frames_in_flight, words
    return words


def read_answers(lines: Path) -> list[dict[str, Any]]:
    """What a JSONL sink wrote."""
    return [json.loads(line) for line in lines.read_text().splitlines()]


def scenes_of(records: Iterable[dict[str, Any]]) -> list[tuple[float, float]]:
    """When each scene's frame was taken and when it was answered, in seconds since 1970."""
    scenes = [record for record in records if record["result"] == "scene"]
    taken = [datetime.fromisoformat(record["capture_time"]).timestamp() for record in scenes]
    return [(when, when + record["age_seconds"]) for when, record in zip(taken, scenes, strict=True)]


@pytest.mark.parametrize("max_in_flight", [None, 2])
def test_a_fast_camera_gets_fresh_answers(gateway: ServiceProcess, max_in_flight: int | None) -> None:
    """One frame in flight is the gateway's default. With two, one waits inside Triton; some seconds show that."""
    seconds = min(SECONDS, 6.0) if max_in_flight else SECONDS
    frames = round(seconds * FRAMES_PER_SECOND)
    taken: list[float] = []
    scenes: list[tuple[float, float]] = []
    megabytes: list[float] = []
    results: Counter[str] = Counter()
    with PerceptionClient(gateway.address) as client:
        alone = seconds_alone(client)
        camera = film(frames, 1 / FRAMES_PER_SECOND, taken)
        stream = client.stream(camera, camera="gate", track=True, max_in_flight=max_in_flight)
        for sequence, answer in enumerate(stream, 1):
            assert answer.sequence == sequence
            assert not answer.degradation
            if answer.scene:
                scenes.append((taken[sequence - 1], time.monotonic()))
                megabytes.append(gateway.resident_megabytes())
                results["scene"] += 1
            else:
                assert answer.dropped, answer
                results[answer.dropped.reason] += 1
    before, after = megabytes[WARM_UP_SCENES], megabytes[-1]
    freshness = check_freshness(scenes, alone, max_in_flight or 1)
    print(
        f"\n{seconds:.0f} s at {FRAMES_PER_SECOND} frames/s, {max_in_flight or 1} in flight; {freshness}; "
        f"{len(taken)} frames sent, {dict(results)}; gateway {before:.1f} MB after {WARM_UP_SCENES} "
        f"scenes, at most {max(megabytes):.1f}, {after:.1f} at the end"
    )
    assert len(taken) == frames == results["scene"] + results["superseded"]
    assert results["scene"] > seconds / SERVICE_SECONDS / 2
    assert after - before < MOST_GROWTH_MEGABYTES


def test_a_fast_camera_of_an_agent_gets_fresh_answers(gateway: ServiceProcess, tmp_path: Path) -> None:
    """The same through `perception camera run`, with its defaults: what its file of answers says."""
    jpegs = [simplejpeg.encode_jpeg(frame(index).image, 95, "RGB") for index in range(60)]
    lines = tmp_path / "gate.jsonl"
    with PerceptionClient(gateway.address) as client:
        alone = seconds_alone(client)
    with mjpeg_camera(jpegs, FRAMES_PER_SECOND) as url:
        camera = {"name": "gate", "source": url, "sinks": [{"kind": "jsonl", "path": str(lines)}]}
        with AgentProcess(tmp_path, gateway.address, [camera]) as agent:
            agent.until(lambda status: status.perceived >= WARM_UP_SCENES)
            before = agent.resident_megabytes(), gateway.resident_megabytes()
            time.sleep(SECONDS)
            after = agent.resident_megabytes(), gateway.resident_megabytes()
            status = agent.camera()
            assert agent.stop() == 0, agent.log()
    records = read_answers(lines)
    results = Counter(record.get("reason", record["result"]) for record in records)
    scenes = scenes_of(records)
    freshness = check_freshness(scenes, alone)
    print(
        f"\n{SECONDS:.0f} s through an agent; {freshness}; {status.sent} frames "
        f"sent before it was stopped, answered in all {dict(results)}; agent and gateway {before} MB after "
        f"{WARM_UP_SCENES} scenes, {after} at the end"
    )
    assert [record["sequence"] for record in records] == list(range(1, len(records) + 1))
    assert len(records) == results["scene"] + results["superseded"] >= status.sent
    assert results["superseded"] > results["scene"] > SECONDS / SERVICE_SECONDS / 2
    assert status.failed == 0
    assert all(end - start < MOST_GROWTH_MEGABYTES for start, end in zip(before, after, strict=True))


def test_sixteen_cameras_of_an_agent_get_their_fair_share(gateways: Gateways, tmp_path: Path) -> None:
    """Films of thirty frames a second, every other one thinned to five, before a Triton that does twenty for all."""
    source = str(write_film(tmp_path / "film.mp4", 24, FRAMES_PER_SECOND))
    lines = {f"c{index:02}": tmp_path / f"c{index:02}.jsonl" for index in range(16)}
    cameras = [
        {"name": name, "source": source, "loop": True, "sinks": [{"kind": "jsonl", "path": str(path)}]}
        | {"stream": {"deadline_seconds": 10}}
        | ({"frames_per_second": 5} if index % 2 else {})
        for index, (name, path) in enumerate(lines.items())
    ]
    with AgentProcess(tmp_path, gateways(0.05).address, cameras) as agent:
        for name in lines:
            agent.until(lambda status: status.perceived > 0, name)
        began = time.time()
        time.sleep(6.0)
        ended = time.time()
        assert agent.stop() == 0, agent.log()
    answers = [read_answers(path) for path in lines.values()]
    assert all(record["result"] in ("scene", "dropped") for records in answers for record in records)
    scenes = [sum(began < when < ended for _, when in scenes_of(records)) for records in answers]
    print(f"\nscenes of each camera: {scenes}; Jain's index {jain_index(scenes):.4f}")
    assert sum(scenes) < 16 * 5 * 6.0 / 2, "the system is not overloaded: this shows nothing"
    assert jain_index(scenes) >= 0.95, scenes
