"""What happens when a server, or the process of one of its models, dies."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from services.runtime.engines.triton import TritonEngine
from services.runtime.errors import EngineUnavailable, ModelUnavailable
from services.stack.triton import remove_shared_memory
from tests.support.contract_models import picture, write_model, write_throttled_model
from tests.support.triton import TritonServer
from tests.support.waiting import until

pytestmark = pytest.mark.integration

EngineOf = Callable[[TritonServer, str], TritonEngine]
IMAGE = {"image": picture()[None]}


@pytest.fixture(scope="module")
def shared_server(start_triton: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory) -> TritonServer:
    repository = tmp_path_factory.mktemp("repository")
    write_model(repository, "detection")
    write_throttled_model(repository, 1.0, "slow")
    return start_triton(repository, ["detection", "slow"])


@pytest.fixture
def server(shared_server: TritonServer) -> TritonServer:
    """The module's server, running again where the test before ended it."""
    return shared_server if shared_server.running else shared_server.start()


def regions(server: TritonServer) -> list[str]:
    return sorted(path.name for path in Path("/dev/shm").glob(f"{server.command.shared_memory_prefix}*"))


def alive(processes: Iterable[int]) -> list[int]:
    return [process for process in processes if Path(f"/proc/{process}").exists()]


async def ended(processes: Iterable[int]) -> bool:
    return not alive(processes)


def regions_of(server: TritonServer, process: int) -> set[str]:
    """Those regions that a process has in its memory."""
    return {name for name in regions(server) if f"/dev/shm/{name}" in Path(f"/proc/{process}/maps").read_text()}


async def end_and_clear_away(server: TritonServer) -> set[str]:
    """Kills the server and removes the regions of memory that it left, which are returned.

    None of its model processes that lived until then; perhaps others' than those that a test killed, because Triton
    itself kills the process by which it looks at a model, where that takes too long to end.
    """
    processes = server.stub_processes().values()
    theirs = set[str]().union(*(regions_of(server, process) for process in processes))
    assert theirs
    server.kill()
    await until(lambda: ended(processes), 10.0)
    left = set(regions(server))
    assert not left & theirs
    assert remove_shared_memory(server.command.shared_memory_prefix) == len(left)
    assert regions(server) == []
    return left


async def test_a_dead_model_process_is_noticed_and_reload_replaces_it(
    server: TritonServer, engine_of: EngineOf
) -> None:
    """Triton goes on calling such a model ready, and never starts its process again."""
    engine, other = engine_of(server, "detection"), engine_of(server, "slow")
    assert await engine.ready()
    assert (await engine.infer(IMAGE, 10.0)).model_version == "1"
    killed = server.stub_processes()["detection"]
    its_regions = regions_of(server, killed)
    os.kill(killed, signal.SIGKILL)
    with pytest.raises(ModelUnavailable, match="not healthy"):
        await engine.infer(IMAGE, 10.0)
    started = time.monotonic()
    assert not await engine.ready()
    assert time.monotonic() - started < 3.0
    assert await other.ready()
    await engine.reload()
    assert await engine.ready()
    assert (await engine.infer(IMAGE, 10.0)).outputs["num_detections"][0, 0] == 1
    # The memory of the killed process stays, even when the server ends.
    assert its_regions
    assert its_regions <= await end_and_clear_away(server)


async def test_a_dead_model_process_is_replaced_without_a_hand(server: TritonServer) -> None:
    """Twice in a row; the model beside it goes on."""
    engine, other = TritonEngine(server.url, "detection", reloads=True), TritonEngine(server.url, "slow")
    try:
        for _ in range(2):
            assert await engine.ready()
            os.kill(server.stub_processes()["detection"], signal.SIGKILL)
            with pytest.raises(ModelUnavailable):
                await engine.infer(IMAGE, 10.0)
            assert not await engine.ready()
            assert await other.ready()
            await until(engine.ready)
            assert (await engine.infer(IMAGE, 10.0)).outputs["num_detections"][0, 0] == 1
    finally:
        await engine.close()
        await other.close()
    await end_and_clear_away(server)


async def test_an_engine_outlives_its_server(server: TritonServer, engine_of: EngineOf) -> None:
    engine, slow = engine_of(server, "detection"), engine_of(server, "slow")
    assert await engine.ready()
    under_way = asyncio.create_task(slow.infer({"image": picture()}, 60.0))
    await asyncio.sleep(0.2)
    processes = server.stub_processes().values()
    server.kill()
    with pytest.raises(EngineUnavailable):
        await under_way
    with pytest.raises(EngineUnavailable):
        await engine.infer(IMAGE, 10.0)
    assert not await engine.ready()
    await until(lambda: ended(processes), 10.0)
    assert regions(server) == []
    await asyncio.to_thread(server.start)
    await until(engine.ready, 5.0)
    assert (await engine.infer(IMAGE, 10.0)).outputs["num_detections"][0, 0] == 1
    assert (await engine.describe()).version == "1"


async def test_two_servers_live_side_by_side_and_leave_nothing_behind(
    server: TritonServer, start_triton: Callable[..., TritonServer], engine_of: EngineOf
) -> None:
    second = start_triton(server.repository, ["detection"])
    here, there = engine_of(server, "detection"), engine_of(second, "detection")
    assert await here.ready()
    assert await there.ready()
    assert regions(server)
    assert regions(second)
    await asyncio.to_thread(second.stop)
    assert regions(second) == []
    assert (await here.infer(IMAGE, 10.0)).outputs["num_detections"][0, 0] == 1
    await asyncio.to_thread(server.stop)
    assert regions(server) == []
