"""Camera streams whose gateway ends them because of their age: they go on, and every frame is answered once."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import simplejpeg
from perception import AsyncPerceptionClient, Frame, PerceptionClient, StreamAnswer

from tests.support.camera_agent import AgentProcess
from tests.support.cameras import film, frame
from tests.support.contract_models import write_model
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.service import ServiceProcess
from tests.support.stack import TAXONOMY

pytestmark = pytest.mark.integration

GRACE_SECONDS = 2.0
"""A stream lasts at most nine tenths of it."""
SECONDS = 4.0
FRAMES_PER_SECOND = 25


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A gateway that ends streams every second or two, before a detection service."""
    directory = tmp_path_factory.mktemp("handover")
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    write_model(directory, "detection", burden=2)
    with ExitStack() as stack:
        detection = ServiceProcess("detection", directory, ENGINE="onnxruntime", MODEL_REPOSITORY=directory)
        stack.enter_context(detection).wait_until_ready()
        ages = {"MAX_CONNECTION_AGE_SECONDS": 0.5, "MAX_CONNECTION_AGE_GRACE_SECONDS": GRACE_SECONDS}
        process = ServiceProcess("gateway", directory, DETECTION_URL=detection.address, TAXONOMY=taxonomy, **ages)
        yield stack.enter_context(process).wait_until_ready()


def check(answers: list[StreamAnswer]) -> None:
    """One answer for each frame, over several epochs."""
    results = Counter(answer.dropped.reason if answer.dropped else "scene" for answer in answers)
    print(f"{dict(results)} over {len({answer.epoch for answer in answers})} epochs")
    assert [answer.sequence for answer in answers] == list(range(1, round(SECONDS * FRAMES_PER_SECOND) + 1))
    assert not [answer for answer in answers if answer.error]
    assert {answer.dropped.reason for answer in answers if answer.dropped} <= {"superseded"}
    assert len({answer.epoch for answer in answers}) > SECONDS / GRACE_SECONDS
    epochs = [answer.epoch for answer in answers]
    assert epochs == sorted(epochs)


def test_a_stream_of_the_client_goes_on(gateway: ServiceProcess) -> None:
    camera = film(round(SECONDS * FRAMES_PER_SECOND), 1 / FRAMES_PER_SECOND)
    with PerceptionClient(gateway.address) as client:
        check(list(client.stream(camera, camera="gate", track=True)))


async def test_a_stream_of_the_asynchronous_client_goes_on(gateway: ServiceProcess) -> None:
    async def camera() -> AsyncIterator[Frame]:
        for index in range(round(SECONDS * FRAMES_PER_SECOND)):
            await asyncio.sleep(1 / FRAMES_PER_SECOND)
            yield frame(index)

    async with AsyncPerceptionClient(gateway.address) as client:
        check([answer async for answer in client.stream(camera(), camera="gate", track=True)])


def test_a_camera_of_an_agent_goes_on_and_counts_no_outage(gateway: ServiceProcess, tmp_path: Path) -> None:
    jpegs = [simplejpeg.encode_jpeg(frame(index).image, 95, "RGB") for index in range(60)]
    lines = tmp_path / "gate.jsonl"
    with mjpeg_camera(jpegs, FRAMES_PER_SECOND) as url:
        camera = {"name": "gate", "source": url, "sinks": [{"kind": "jsonl", "path": str(lines)}]}
        with AgentProcess(tmp_path, gateway.address, [camera]) as agent:
            agent.until(lambda status: status.perceived > 0)
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                assert agent.camera().gateway_connected
                time.sleep(0.02)
            lost = agent.metrics()["perception_camera_frames_total", "gate", "lost"]
            assert agent.stop() == 0, agent.log()
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [record["sequence"] for record in records] == list(range(1, len(records) + 1))
    assert Counter(record["result"] for record in records).keys() <= {"scene", "dropped"}
    assert len({record["epoch"] for record in records}) > SECONDS / GRACE_SECONDS
    assert lost == 0
    assert "no stream to the gateway" not in agent_log(tmp_path)


def agent_log(directory: Path) -> str:
    return (directory / "agent.log").read_text()
