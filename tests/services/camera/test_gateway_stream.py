"""A camera's stream to a gateway that is slow, silent, or gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc.aio
import pytest
from perception.v1 import camera_pb2, perception_pb2, perception_pb2_grpc

from services.camera.agent import RunningCamera
from services.camera.camera import Camera
from services.camera.gateway_stream import GatewayStream
from services.camera.settings import CameraSettings
from services.camera.status import CameraStatus
from tests.services.camera.sources import camera, jpegs, number_of, write_film
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.stream_gateway import StreamGateway, serving
from tests.support.triton import free_ports


@asynccontextmanager
async def running(settings: CameraSettings, port: int) -> AsyncIterator[RunningCamera]:
    """A camera that sends to a port of this machine."""
    options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        gate = RunningCamera(settings, perception_pb2_grpc.PerceptionServiceStub(channel))
        task = asyncio.create_task(gate.run())
        try:
            yield gate
        finally:
            gate.stop()
            async with asyncio.timeout(10):
                await task


async def until(holds: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  what is waited for sets no event
            await asyncio.sleep(0.02)


async def test_lossless_source_is_perceived_whole(tmp_path: Path) -> None:
    """Every frame, in order, and the camera ends once all are answered; the options go with the first frame."""
    film = write_film(tmp_path / "film.mp4", 20, 25)
    gateway = StreamGateway(seconds=0.02)
    stream = {"deadline_seconds": 0.25, "max_in_flight": 3, "priority": "high", "track": True}
    settings = camera(film, name="whole", pace="as_fast_as_possible", stream=stream)
    async with serving(gateway) as port, running(settings, port) as gate:
        await until(lambda: gate.status.message().perceived == 20)
    (requests,) = gateway.streams
    assert [request.sequence for request in requests] == list(range(1, 21))
    assert [request.HasField("options") for request in requests] == [True] + [False] * 19
    options = requests[0].options
    assert (options.camera, options.max_in_flight, options.track) == ("whole", 3, True)
    assert options.deadline.ToMilliseconds() == 250
    assert options.priority == perception_pb2.PRIORITY_HIGH
    assert not options.HasField("resume_after")
    times = [request.capture_time.ToNanoseconds() for request in requests]
    assert times == sorted(times)
    assert [request.position.ToMilliseconds() for request in requests] == list(range(0, 800, 40))
    assert number_of(gateway.picture) == 19


async def test_gateway_killed_in_mid_stream_live(tmp_path: Path) -> None:
    """A live camera goes on with its newest frame; what was lost is counted, and no number is used twice."""
    gateway = StreamGateway(seconds=0.05)
    port = free_ports(1)[0]
    with mjpeg_camera(jpegs(10), 25) as url:
        async with running(camera(url, name="live"), port) as gate:
            await asyncio.sleep(0.3)
            assert not gate.status.message().gateway_connected
            async with serving(gateway, port):
                await until(lambda: gate.status.message().perceived >= 5)
                assert gate.status.message().gateway_connected
            await until(lambda: not gate.status.message().gateway_connected)
            before = gate.status.message()
            assert before.sent == before.perceived + before.failed
            async with serving(gateway, port):
                await until(lambda: gate.status.message().perceived >= before.perceived + 5)
                await until(lambda: gate.status.message().dropped > 0)  # what came while nobody took it
    first, second = gateway.streams
    sequences = gateway.sequences()
    assert sequences == sorted(set(sequences))
    assert first[0].options.max_in_flight == 0  # the gateway decides
    assert second[0].options.resume_after == before.perceived
    assert second[0].sequence > first[-1].sequence


async def test_gateway_killed_in_mid_stream_lossless(tmp_path: Path) -> None:
    """A lossless source sends what was not answered again, and gets one scene for each frame."""
    film = write_film(tmp_path / "film.mp4", 20, 25)
    gateway = StreamGateway(seconds=0.02)
    port = free_ports(1)[0]
    lines = tmp_path / "film.jsonl"
    settings = camera(film, name="again", pace="as_fast_as_possible", sinks=[{"kind": "jsonl", "path": lines}])
    async with running(settings, port) as gate:
        for _ in range(3):
            perceived = gate.status.message().perceived
            async with serving(gateway, port):
                await until(lambda seen=perceived: gate.status.message().perceived >= min(20, seen + 4))
        async with serving(gateway, port):
            await until(lambda: gate.status.message().perceived == 20)
            await until(lambda: len(lines.read_text().splitlines()) == 20)
    status = gate.status.message()
    assert (status.failed, status.dropped) == (0, 0)
    assert len(gateway.streams) >= 3
    assert sorted(set(gateway.sequences())) == list(range(1, 21))
    assert gateway.streams[0][0].options.max_in_flight == 2
    for stream in gateway.streams[1:]:
        assert stream[0].sequence == stream[0].options.resume_after + 1


async def test_gateway_that_ends_the_stream_is_called_again() -> None:
    """As it does when it is about to stop."""
    gateway = StreamGateway()
    gateway.end_after = 3
    with mjpeg_camera(jpegs(5), 25) as url:
        async with serving(gateway) as port, running(camera(url, name="ended"), port) as gate:
            await until(lambda: len(gateway.streams) >= 3)
            assert gate.status.message().perceived >= 6


@pytest.mark.parametrize("live", [True, False])
async def test_gateway_that_hands_the_stream_over(tmp_path: Path, live: bool) -> None:
    """The next stream goes on with what has no answer: no frame is lost, none answered twice, and nothing was away."""
    gateway = StreamGateway(seconds=0.03)
    gateway.end_after, gateway.hands_over = 5, True
    source = write_film(tmp_path / "film.mp4", 24, 25)
    lines = tmp_path / "film.jsonl"
    pace = {"pace": "real_time"} if live else {"pace": "as_fast_as_possible", "stream": {"max_in_flight": 4}}
    settings = camera(source, name="handed", sinks=[{"kind": "jsonl", "path": lines}], **pace)
    async with serving(gateway) as port, running(settings, port) as gate:
        await until(lambda: gate.status.is_connected)
        connected: list[bool] = []
        gate.status._on_change = lambda: connected.append(gate.status.is_connected)
        await until(lambda: gate.status.state == camera_pb2.CAMERA_STATE_ENDED and not gate.status.is_connected)
    status = gate.status.message()
    answered = [json.loads(line)["sequence"] for line in lines.read_text().splitlines()]
    assert answered == list(range(1, status.sent + 1))
    assert (status.failed, status.perceived) == (0, status.sent)
    assert len(gateway.streams) >= status.sent / 5
    assert all(stream[0].HasField("options") for stream in gateway.streams)
    assert connected.count(False) == 1, "only at the end"


async def test_gateway_that_never_answers_takes_no_memory(monkeypatch: Any) -> None:
    """Frames without an answer are bounded; the rest is skipped before it is encoded."""
    monkeypatch.setattr("services.camera.gateway_stream.MAX_UNANSWERED", 5)
    gateway = StreamGateway()
    gateway.hold.clear()
    with mjpeg_camera(jpegs(10), 50) as url:
        async with serving(gateway) as port, running(camera(url, name="held"), port) as gate:
            await until(lambda: gate.status.message().dropped > 20)
            assert gate.status.message().sent == 5
            gateway.hold.set()
            await until(lambda: gate.status.message().perceived >= 10)


async def test_gateway_that_hangs_is_left(monkeypatch: Any) -> None:
    monkeypatch.setattr("services.camera.gateway_stream._ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("services.camera.gateway_stream._CHECK_SECONDS", 0.1)
    gateway = StreamGateway()
    gateway.hold.clear()
    with mjpeg_camera(jpegs(5), 25) as url:
        async with serving(gateway) as port, running(camera(url, name="hangs"), port) as gate:
            await until(lambda: len(gateway.streams) >= 2)
            assert gate.status.message().failed > 0
            gateway.hold.set()
            await until(lambda: gate.status.message().perceived >= 3)


async def test_loop_resets_tracks(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 4, 25)
    gateway = StreamGateway()
    settings = camera(film, name="loops", pace="as_fast_as_possible", loop=True)
    async with serving(gateway) as port, running(settings, port):
        await until(lambda: len(gateway.sequences()) >= 9)
    resets = [request.sequence for request in gateway.streams[0] if request.reset_tracks]
    assert resets[:2] == [5, 9]


async def test_stopping_waits_for_the_last_answers(tmp_path: Path) -> None:
    gateway = StreamGateway(seconds=0.1)
    with mjpeg_camera(jpegs(5), 50) as url:
        async with serving(gateway) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            gate = RunningCamera(camera(url, name="stops"), perception_pb2_grpc.PerceptionServiceStub(channel))
            task = asyncio.create_task(gate.run())
            await until(lambda: gate.status.message().perceived >= 2)
            gate.stop()
            async with asyncio.timeout(6):
                await task
    status = gate.status.message()
    assert status.reason == "the agent is stopping"
    assert status.sent == status.perceived + status.failed


async def test_stream_that_is_cancelled_while_it_breaks_off_ends() -> None:
    """In the same moment: the cancellation is not forgotten over the error."""
    settings = camera("photos", name="both")
    status = CameraStatus("both")
    for _ in range(8):
        async with AsyncExitStack() as stack:
            async with serving(StreamGateway()) as port:
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
                stream = GatewayStream(
                    perception_pb2_grpc.PerceptionServiceStub(channel),
                    settings,
                    Camera(settings, status, Random(0)),
                    status,
                    lambda: asyncio.sleep(0),
                    lambda answer, sent: None,
                    Random(0),
                )
                task = asyncio.create_task(stream.run())
                await until(lambda: status.is_connected)
            task.cancel()
            _, pending = await asyncio.wait((task,), timeout=2)
            assert not pending
            assert task.cancelled()
