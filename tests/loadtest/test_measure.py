"""A system that stalls, breaks off or is too slow cannot hide it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from perception import drawing
from perception.v1 import perception_pb2_grpc

from loadtest.client_processes import LoadError
from loadtest.plan import Closed, Load, Open, Plan, Streams
from loadtest.result import Result
from loadtest.run import measure
from loadtest.sources import Frames, frames_of
from tests.loadtest.gateways import BreakingGateway, StallingGateway
from tests.support.stream_gateway import serving
from tests.support.triton import free_ports

STALL_SECONDS = 1.0
WINDOW_SECONDS = 2.0


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frames]:
    """One picture of almost a megabyte, of which a connection takes only a few before somebody reads them."""
    with noise(tmp_path_factory.mktemp("frames"), 480, 640) as found:
        yield found


@contextmanager
def noise(folder: Path, height: int, width: int) -> Iterator[Frames]:
    path = folder / f"{height}.png"
    drawing.write_picture(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8), path)
    with frames_of(str(path)) as found:
        yield found


async def run(gateway: perception_pb2_grpc.PerceptionServiceServicer, load: Load, frames: Frames, **more) -> Result:
    async with serving(gateway) as port:
        plan = Plan(
            address=f"127.0.0.1:{port}",
            load=load,
            **{"seconds": WINDOW_SECONDS, "warmup_seconds": 0, "processes": 1} | more,
        )
        result = await asyncio.to_thread(measure, plan, frames)
    assert result.due == result.scenes + result.dropped + result.failed
    return result


@pytest.mark.parametrize("load", [Open(rate=40, arrivals="fixed"), Streams(cameras=2, rate=20)])
async def test_frames_that_were_due_while_the_system_stalled_count_with_their_wait(load: Load, frames: Frames) -> None:
    result = await run(StallingGateway(after=10, seconds=STALL_SECONDS), load, frames, processes=2)
    assert (result.due, result.failed) == (80, 0)
    # 40 frames a second were due all the time: those of the stall's first half waited for longer than its second half.
    slow = 40 * STALL_SECONDS / 2
    assert result.latency.quantile(100 * (1 - 0.9 * slow / result.due)) > STALL_SECONDS / 2
    assert result.latency.max > 0.95 * STALL_SECONDS
    assert sum(each.due for each in result.intervals) <= result.due


async def test_a_stream_that_takes_no_frames_holds_up_its_camera_and_not_the_clock(frames: Frames) -> None:
    result = await run(StallingGateway(after=10, seconds=STALL_SECONDS), Streams(cameras=1, rate=40), frames)
    # What could not be written was sent late: a clock that starts with the sending sees less.
    assert result.call.mean < 0.8 * result.latency.mean
    assert result.latency.mean > 0.9 * STALL_SECONDS**2 / 2 / WINDOW_SECONDS


async def test_a_closed_loop_says_what_the_system_gives_and_nothing_of_the_frames_it_kept_back(frames: Frames) -> None:
    result = await run(StallingGateway(after=10, seconds=STALL_SECONDS), Closed(clients=1), frames)
    assert result.latency.max > 0.95 * STALL_SECONDS
    assert result.latency.p50 < STALL_SECONDS / 2
    assert result.throughput == pytest.approx(result.due / WINDOW_SECONDS, abs=1)


async def test_a_camera_whose_stream_breaks_off_opens_another(frames: Frames) -> None:
    gateway = BreakingGateway(seconds=0.1)
    gateway.end_after = 4
    result = await run(gateway, Streams(cameras=1, rate=20), frames)
    assert len(gateway.streams) > 1
    assert result.scenes >= 4 * (len(gateway.streams) - 1)
    assert result.failed > 0
    assert all(failure.message for failure in result.errors.values())


async def test_a_client_that_cannot_keep_up_says_so(tmp_path: Path) -> None:
    load = Open(rate=20_000)
    with noise(tmp_path, 16, 16) as small:
        result = await run(StallingGateway(after=-1, seconds=0), load, small, timeout_seconds=0.5, seconds=1)
    assert result.client.limit
    assert result.client.limit in result.warnings[0]


async def test_a_system_that_takes_no_frames_at_all_does_not_hold_the_test_up(frames: Frames) -> None:
    result = await run(StallingGateway(after=5, seconds=60), Streams(cameras=1, rate=20), frames, timeout_seconds=0.5)
    assert result.errors.keys() == {"DEADLINE_EXCEEDED"}
    assert result.scenes + result.failed == 40


async def test_nobody_answers(frames: Frames) -> None:
    plan = Plan(address=f"127.0.0.1:{free_ports(1)[0]}", load=Closed(clients=1), timeout_seconds=1)
    with pytest.raises(LoadError, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"):
        await asyncio.to_thread(measure, plan, frames)
