"""`CameraService`, over the network, beside a camera that never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from perception.v1 import camera_pb2, camera_pb2_grpc, perception_pb2

from services.camera.agent import Agent
from services.camera.servicer import CameraServicer
from services.camera.settings import AgentSettings, CameraSettings
from services.camera.watchers import Watcher
from services.runtime.interceptors import RequestInterceptor
from services.runtime.settings import CallerSettings
from tests.services.camera.sources import camera, jpegs, number_of
from tests.services.camera.test_camera_sinks import sent
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.stream_gateway import StreamGateway, serving

Watch = camera_pb2.WatchCameraRequest
STREAMING = camera_pb2.CAMERA_STATE_STREAMING


@asynccontextmanager
async def agent(cameras: Sequence[CameraSettings], port: int) -> AsyncIterator[tuple[Agent, Any]]:
    """A running agent of these cameras, and a stub of its service."""
    settings = AgentSettings(gateway=f"127.0.0.1:{port}", cameras=tuple(cameras))
    running = Agent(settings, CallerSettings())
    server = grpc.aio.server(interceptors=[RequestInterceptor(4)])
    camera_pb2_grpc.add_CameraServiceServicer_to_server(CameraServicer(running.cameras), server)
    bound = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    running.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{bound}") as channel:
        try:
            yield running, camera_pb2_grpc.CameraServiceStub(channel)
        finally:
            running.stop()
            await running.close()
            await server.stop(None)


async def take(stream: Any, count: int) -> list[camera_pb2.WatchCameraResponse]:
    async with asyncio.timeout(30):
        return [await stream.read() for _ in range(count)]


async def test_watchers_see_what_the_gateway_answers() -> None:
    pictures = jpegs(5)
    with mjpeg_camera(pictures, 20) as url:
        async with serving(StreamGateway()) as port, agent([camera(url, name="seen")], port) as (running, stub):
            stream = stub.WatchCamera(Watch(camera="seen", include_picture=True))
            seen: list[camera_pb2.WatchCameraResponse] = []
            while sum(news.HasField("answer") for news in seen) < 5:
                seen += await take(stream, 1)
            # The state at first and at every change; then each frame with its picture.
            assert not seen[0].HasField("answer")
            assert seen[0].status.name == "seen"
            answers = [news for news in seen if news.HasField("answer")]
            assert {news.picture in pictures for news in answers} == {True}
            assert {news.status.state for news in answers} == {STREAMING}
            assert {news.answer.scene.panoptic.segments[0].category for news in answers} == {"car"}
            assert [number_of(news.picture) for news in answers] != [0] * 5
            times = [news.capture_time.ToNanoseconds() for news in answers]
            assert times == sorted(set(times))
            plain = stub.WatchCamera(Watch(camera="seen"))
            assert {news.picture for news in await take(plain, 3)} == {b""}
            stream.cancel()
            plain.cancel()

            (status,) = (await stub.ListCameras(camera_pb2.ListCamerasRequest())).cameras
            assert (status.name, status.state, status.gateway_connected) == ("seen", STREAMING, True)
            assert (status.image_size.height, status.image_size.width) == (48, 64)
            assert status.source_frames_per_second == pytest.approx(20, rel=0.5)
            assert status.scenes_per_second > 1
            assert status.sent >= status.perceived + status.failed >= 5
            # Nobody is left to be told.
            async with asyncio.timeout(5):
                while running.cameras["seen"].watchers.count():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)


async def test_slow_watcher_holds_up_nobody() -> None:
    """One that never reads: the camera goes on, others see all, and nothing piles up for it."""
    large = jpegs(5, 480, 640)
    with mjpeg_camera(large, 30) as url:
        async with serving(StreamGateway()) as port, agent([camera(url, name="slow")], port) as (running, stub):
            silent = stub.WatchCamera(Watch(camera="slow", include_picture=True))
            await take(silent, 1)
            quick = stub.WatchCamera(Watch(camera="slow"))
            seen = await take(quick, 40)
            sequences = [news.answer.sequence for news in seen if news.HasField("answer")]
            assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
            assert running.cameras["slow"].status.message().dropped < 20
            silent.cancel()
            quick.cancel()


def test_watcher_keeps_the_newest_frame_and_the_last_changes() -> None:
    """What waits for a watcher is one frame and some changes of state, however long it does not read."""
    states = [camera_pb2.CameraStatus(name="gate", reconnects=number) for number in range(100)]
    watcher = Watcher(iter(states).__next__, 0.0)
    for number in range(50):
        watcher.changed()
        watcher.answered(perception_pb2.PerceiveStreamResponse(sequence=number), sent(number))
    watcher.end()

    async def read() -> list[camera_pb2.WatchCameraResponse]:
        news = []
        while (one := await watcher.next(include_picture=False)) is not None:
            news.append(one)
        return news

    news = asyncio.run(read())
    assert [one.status.reconnects for one in news[:-1]] == list(range(19, 51))
    assert news[-1].answer.sequence == 49
    assert len(news) == 33


async def test_watcher_may_ask_for_fewer_frames() -> None:
    with mjpeg_camera(jpegs(5), 25) as url:
        async with serving(StreamGateway()) as port, agent([camera(url, name="few")], port) as (_, stub):
            stream = stub.WatchCamera(Watch(camera="few", max_frames_per_second=5))
            frames = [news for news in await take(stream, 12) if news.HasField("answer")]
            stream.cancel()
    first, last = (frames[at].answer.sequence for at in (1, -1))
    assert (last - first) / (len(frames) - 2) == pytest.approx(5, rel=0.4)


async def test_requests_that_are_refused(tmp_path: Path) -> None:
    async with agent([camera(tmp_path, name="gate")], 1) as (_, stub):
        for request, code, words in (
            (Watch(camera="door"), grpc.StatusCode.NOT_FOUND, "camera: no camera 'door' here: expected one of gate"),
            (Watch(camera="gate", max_frames_per_second=-1), grpc.StatusCode.INVALID_ARGUMENT, "is -1.0"),
            (Watch(camera="gate", max_frames_per_second=float("nan")), grpc.StatusCode.INVALID_ARGUMENT, "is nan"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.WatchCamera(request).read()
            assert (caught.value.code(), words in str(caught.value.details())) == (code, True)


async def test_watching_ends_with_the_camera(tmp_path: Path) -> None:
    """A file that comes to its end, and an agent that stops."""
    (tmp_path / "0.jpg").write_bytes(jpegs(1)[0])
    with mjpeg_camera(jpegs(2), 20) as url:
        cameras = [camera(tmp_path, name="file", pace="as_fast_as_possible"), camera(url, name="live")]
        async with serving(StreamGateway()) as port, agent(cameras, port) as (running, stub):
            file, live = (stub.WatchCamera(Watch(camera=name)) for name in ("file", "live"))
            async with asyncio.timeout(30):
                last = [news async for news in file][-1]
            assert last.status.reason == "the source has come to its end"
            news = await take(live, 3)
            running.stop()
            async with asyncio.timeout(10):
                while (one := await live.read()) is not grpc.aio.EOF:
                    news.append(one)
            assert [one.status.reason for one in news if not one.HasField("answer")][-1] == "the agent is stopping"
