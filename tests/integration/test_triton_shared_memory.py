"""Inputs that Triton reads from shared memory."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.runtime.engines.shared_slots import NAME_PREFIX
from services.runtime.engines.triton import TritonEngine
from services.runtime.engines.triton_shared_inputs import SLOTS
from services.runtime.errors import DeadlineExceeded, EngineUnavailable
from services.runtime.shared_memory import SHARED_MEMORY
from tests.support.contract_models import TASKS, picture, write_model, write_repository, write_throttled_model
from tests.support.triton import TritonServer
from tests.support.waiting import until

pytestmark = pytest.mark.integration

ShareWith = Callable[..., TritonEngine]
IMAGE = {"image": picture()[None]}

SERVICE = """
import asyncio, sys
from pathlib import Path
from services.runtime.shared_memory import SHARED_MEMORY
from services.runtime.engines.triton import TritonEngine

async def serve():
    engine = TritonEngine(sys.argv[1], "detection", shared_memory=SHARED_MEMORY)
    await engine.describe()
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(serve())
"""


@pytest.fixture(scope="module")
def server(start_triton: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory) -> TritonServer:
    repository = write_repository(tmp_path_factory.mktemp("repository"))
    write_model(repository, "instance_segmentation", "H", "W", name="open_size", batch=False)
    write_throttled_model(repository, 0.2, "slow")
    return start_triton(repository, [*TASKS, "open_size", "slow"])


@pytest_asyncio.fixture
async def share_with() -> AsyncIterator[ShareWith]:
    """Makes engines that share their inputs, closed after the test: `share_with(server, model)`."""
    engines: list[TritonEngine] = []

    def make(server: TritonServer, model: str, folder: Path = SHARED_MEMORY) -> TritonEngine:
        engines.append(TritonEngine(server.url, model, shared_memory=folder))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()


class Ways:
    """How many inputs of a model went which way since this was made."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._before = self._counts()

    def _counts(self) -> dict[str, float]:
        name, ways = "perception_model_inputs_total", ("shared", "sent")
        return {way: REGISTRY.get_sample_value(name, {"model": self._model, "way": way}) or 0.0 for way in ways}

    def taken(self) -> dict[str, float]:
        return {way: count - self._before[way] for way, count in self._counts().items()}


def call(server: TritonServer, method: str, request: Any) -> Any:
    """Calls Triton without our engine."""
    with grpc.insecure_channel(server.url) as channel:
        return getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)(request, timeout=30)


def regions(server: TritonServer) -> list[str]:
    """What the server has mapped."""
    return sorted(call(server, "SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()).regions)


async def shares(engine: TritonEngine, model: str) -> bool:
    """Whether the input of an inference is shared; every one must be answered rightly."""
    await engine.describe()
    ways = Ways(model)
    assert (await engine.infer(IMAGE, 10.0)).outputs["num_detections"][0, 0] == 1
    return ways.taken() == {"shared": 1, "sent": 0}


@pytest.mark.parametrize("name", [*TASKS, "open_size"])
async def test_the_answer_is_the_one_to_an_input_that_is_sent(
    server: TritonServer, engine_of: Callable[..., TritonEngine], share_with: ShareWith, name: str
) -> None:
    sharing, sending, ways = share_with(server, name), engine_of(server, name), Ways(name)
    await sharing.describe()
    pixels = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)
    mirrored = pixels[:, ::-1]
    for shown in (pixels, mirrored):
        inputs = {"image": shown if name == "open_size" else shown[None]}
        shared, sent = await sharing.infer(inputs, 10.0), await sending.infer(inputs, 10.0)
        assert shared.outputs.keys() == sent.outputs.keys()
        for output in sent.outputs:
            np.testing.assert_array_equal(shared.outputs[output], sent.outputs[output])
    assert ways.taken() == {"shared": 2, "sent": 2}


async def test_a_whole_batch_of_regions_to_classify_is_shared(server: TritonServer, share_with: ShareWith) -> None:
    engine, ways = share_with(server, "classification"), Ways("classification")
    await engine.describe()
    batch = np.stack([picture(), *[picture(colour=(200, 0, 0))] * 7])
    probabilities = (await engine.infer({"image": batch}, 10.0)).outputs["probabilities"]
    assert probabilities.argmax(axis=1).tolist() == [1, *[0] * 7]
    assert ways.taken() == {"shared": 1, "sent": 0}


async def test_where_all_slots_are_taken_inputs_are_sent(server: TritonServer, share_with: ShareWith) -> None:
    engine, ways = share_with(server, "slow"), Ways("slow")
    await engine.describe()
    boxes = [(3 * index, 2 * index, 3 * index + 8, 2 * index + 6) for index in range(SLOTS + 4)]
    answers = await asyncio.gather(*(engine.infer({"image": picture(box=box)}, 60.0) for box in boxes))
    assert [tuple(answer.outputs["detection_boxes"][0]) for answer in answers] == boxes
    assert ways.taken() == {"shared": SLOTS, "sent": 4}


async def test_who_gives_up_leaves_the_slots_to_the_next(server: TritonServer, share_with: ShareWith) -> None:
    """By its deadline or by cancellation, while Triton works on the first and the others wait for it."""
    engine = share_with(server, "slow")
    await engine.describe()
    abandoned = [asyncio.create_task(engine.infer({"image": picture()}, 0.1)) for _ in range(SLOTS - 1)]
    cancelled = asyncio.create_task(engine.infer({"image": picture()}, 60.0))
    for each in abandoned:
        with pytest.raises(DeadlineExceeded):
            await each
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    ways = Ways("slow")
    boxes = [(4 * index, 5, 4 * index + 9, 20) for index in range(SLOTS)]
    answers = await asyncio.gather(*(engine.infer({"image": picture(box=box)}, 60.0) for box in boxes))
    assert [tuple(answer.outputs["detection_boxes"][0]) for answer in answers] == boxes
    assert ways.taken() == {"shared": SLOTS, "sent": 0}


async def test_where_triton_cannot_find_the_memory_inputs_are_sent(
    server: TritonServer, share_with: ShareWith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on another machine: the names are not in its /dev/shm. It is said once, however often it is tried."""
    engine = share_with(server, "detection", tmp_path)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            await engine.reload()
            assert not await shares(engine, "detection")
    told = [record for record in caplog.records if "Triton" in record.message]
    assert [record.message for record in told] == ["inputs are sent to Triton, not shared"]
    assert "Unable to open shared memory region" in vars(told[0])["reason"]
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


async def test_a_server_that_lost_the_memory_gets_it_again_and_no_request_fails(
    server: TritonServer, share_with: ShareWith
) -> None:
    """As after a restart that no request noticed."""
    engine = share_with(server, "detection")
    assert await shares(engine, "detection")
    call(server, "SystemSharedMemoryUnregister", service_pb2.SystemSharedMemoryUnregisterRequest())
    assert not await shares(engine, "detection")
    await until(lambda: shares(engine, "detection"))


async def test_inputs_are_shared_again_after_the_server_was_killed(server: TritonServer, share_with: ShareWith) -> None:
    engine, slow = share_with(server, "detection"), share_with(server, "slow")
    assert await shares(engine, "detection")
    await slow.describe()
    under_way = asyncio.create_task(slow.infer({"image": picture()}, 60.0))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(server.kill)
    with pytest.raises(EngineUnavailable):
        await under_way
    with pytest.raises(EngineUnavailable):
        await engine.infer(IMAGE, 10.0)
    await asyncio.to_thread(server.start)
    await until(engine.ready)
    await until(lambda: shares(engine, "detection"))


async def test_a_model_of_another_size_gets_other_memory(
    start_triton: Callable[..., TritonServer], share_with: ShareWith, tmp_path: Path
) -> None:
    write_model(tmp_path, "detection")
    server = start_triton(tmp_path, ["detection"])
    engine = share_with(server, "detection")
    assert await shares(engine, "detection")
    small = regions(server)
    write_model(tmp_path, "detection", 96, 128, version=2)
    await engine.reload()
    await engine.describe()
    ways = Ways("detection")
    answer = await engine.infer({"image": picture(96, 128)[None]}, 10.0)
    assert (answer.model_version, answer.outputs["num_detections"][0, 0]) == ("2", 1)
    assert ways.taken() == {"shared": 1, "sent": 0}
    assert len(regions(server)) == 1
    assert regions(server) != small


async def test_closing_leaves_nothing(server: TritonServer) -> None:
    before = regions(server)
    engine = TritonEngine(server.url, "detection", shared_memory=SHARED_MEMORY)
    assert await shares(engine, "detection")
    (ours,) = set(regions(server)) - set(before)
    assert (SHARED_MEMORY / ours).exists()
    await engine.close()
    assert regions(server) == before
    assert not (SHARED_MEMORY / ours).exists()


async def test_what_a_killed_service_left_is_gone_after_the_next_start(
    server: TritonServer, share_with: ShareWith
) -> None:
    """From /dev/shm, and from what Triton has mapped."""
    before = regions(server)
    service = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVICE, server.url, stdout=subprocess.PIPE)
    assert service.stdout is not None
    try:
        assert await service.stdout.readline() == b"ready\n"
        (left,) = set(regions(server)) - set(before)
    finally:
        service.kill()
        await service.wait()
    assert left.startswith(NAME_PREFIX)
    await share_with(server, "detection").describe()
    assert left not in regions(server)
    assert not (SHARED_MEMORY / left).exists()
