"""What a camera says it is doing, against real sources that come and go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import psutil
from perception.v1 import camera_pb2
from prometheus_client import REGISTRY

from services.camera.camera import Camera, CameraFrame
from services.camera.capture.protocol import Report
from services.camera.settings import CameraSettings
from services.camera.status import CameraStatus, state_name
from tests.services.camera.sources import black_hole, camera, jpegs, number_of, write_film
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.rtsp import RtspServer


class Followed:
    """A running camera, with all states that it went through."""

    def __init__(self, settings: CameraSettings) -> None:
        self.history: list[camera_pb2.CameraStatus] = []
        self.status = CameraStatus(settings.name, lambda: self.history.append(self.status.message()))
        self.camera = Camera(settings, self.status, Random(0))
        self.name = settings.name

    def states(self) -> list[str]:
        """Names of the states so far, each change once."""
        return [state_name(status.state) for status in self.history]

    async def until(self, holds: Callable[[], bool], seconds: float = 30.0) -> None:
        """Waits until it holds, taking frames as the gateway's stream would. Meanwhile metric and status agree."""
        async with asyncio.timeout(seconds):
            while not holds():
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self.camera.next_frame()
                shown = [state for state in STATES if self.metric("state", state=state)]
                assert shown == [state_name(self.status.state)]

    def metric(self, name: str, **labels: str) -> float | None:
        """A metric of this camera."""
        return REGISTRY.get_sample_value(f"perception_camera_{name}", {"camera": self.name, **labels})


STATES = ("connecting", "streaming", "stalled", "waiting", "ended")


@asynccontextmanager
async def following(settings: CameraSettings) -> AsyncIterator[Followed]:
    followed = Followed(settings)
    task = asyncio.create_task(followed.camera.run())
    try:
        yield followed
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_rtsp_server_killed_and_started_again(access_units: Path) -> None:
    """It comes back by itself, and says so all along."""
    with RtspServer(access_units) as server:
        async with following(camera(server.url, name="killed")) as gate:
            await gate.until(lambda: gate.states()[-1:] == ["streaming"])
            assert gate.history[-1].reason == ""
            server.kill()
            await gate.until(lambda: "waiting" in gate.states())
            waiting = next(status for status in gate.history if status.state == camera_pb2.CAMERA_STATE_WAITING)
            assert waiting.reason == "the source ended the stream"
            wait = waiting.retry_time.ToNanoseconds() - waiting.since.ToNanoseconds()
            assert 0 <= wait / 1e9 <= 0.2
            await gate.until(lambda: gate.states().count("waiting") > 2)
            assert "Connection refused" in [status.reason for status in gate.history]
            server.start()
            await gate.until(lambda: gate.states()[-1] == "streaming")
            message = gate.status.message()
            assert message.reconnects == gate.metric("reconnects_total") >= 3
            assert not message.HasField("retry_time")
            await gate.until(lambda: gate.status.message().source_frames_per_second > 5)
            assert gate.metric("last_frame_age_seconds") < 5
    assert set(gate.states()) == {"streaming", "waiting", "connecting"}


async def test_rtsp_server_that_falls_silent(access_units: Path) -> None:
    """Its connection stays open, as with a camera that hangs: stalled, and after as long again opened anew."""
    with RtspServer(access_units) as server:
        async with following(camera(server.url, name="silent", stall_seconds=0.5, connect_seconds=1.5)) as gate:
            await gate.until(lambda: gate.states()[-1:] == ["streaming"])
            server.freeze()
            await gate.until(lambda: "stalled" in gate.states())
            assert "no frame for more than 0.5 s" in [status.reason for status in gate.history]
            stalled = gate.states().index("stalled")
            await gate.until(lambda: "waiting" in gate.states()[stalled:])
            waiting = gate.history[gate.states().index("waiting", stalled)]
            assert waiting.reason.startswith("no frame for 1.")
            # The kernel still takes its connections.
            await gate.until(lambda: "not open within 1.5 s" in [status.reason for status in gate.history])
            server.kill()
            server.start()
            await gate.until(lambda: gate.states()[-1] == "streaming")


async def test_a_decoder_that_dies_is_started_again_and_harms_no_other(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 25, 25)
    async with following(camera(film, name="struck", loop=True, retry_seconds=0.1)) as struck:
        await struck.until(lambda: struck.states()[-1:] == ["streaming"])
        (decoder,) = (child for child in psutil.Process().children() if "services.camera.capture" in child.cmdline())
        async with following(camera(film, name="spared", loop=True)) as spared:
            await spared.until(lambda: spared.states()[-1:] == ["streaming"])
            decoder.kill()
            await struck.until(lambda: struck.states()[-1] == "streaming" and "waiting" in struck.states())
            assert spared.states() == ["streaming"]


async def test_camera_that_pauses_is_stalled_and_streams_again() -> None:
    """A short silence is told, and costs no connection."""
    with mjpeg_camera(jpegs(2), 1.0) as url:
        async with following(camera(url, name="pauses", stall_seconds=0.7)) as gate:
            await gate.until(lambda: gate.states()[-2:] == ["stalled", "streaming"])
            assert gate.status.message().reconnects == 0


async def test_connecting_to_a_black_hole() -> None:
    """Is given up after the time that is allowed, and let go at once when the agent stops."""
    with black_hole() as port:
        settings = camera(f"rtsp://127.0.0.1:{port}/camera", name="hole", connect_seconds=0.5)
        async with following(settings) as gate:
            await gate.until(lambda: gate.states()[:2] == ["waiting", "connecting"])
            assert gate.history[0].reason == "not open within 0.5 s"
            await asyncio.sleep(0.2)
            start = time.monotonic()
        assert time.monotonic() - start < 3.0


async def test_file_comes_to_its_end(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 5, 25)
    async with following(camera(film, name="film")) as gate:
        await gate.until(lambda: gate.states()[-1:] == ["ended"])
        assert await gate.camera.next_frame() is None
        assert gate.history[-1].reason == "the source has come to its end"
    assert gate.states() == ["streaming", "ended"]


async def test_file_that_is_not_there_yet(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    async with following(camera(film, name="later")) as gate:
        await gate.until(lambda: "waiting" in gate.states())
        assert gate.history[0].reason == "No such file or directory"
        write_film(film.with_name("made.mp4"), 5, 25).rename(film)
        await gate.until(lambda: gate.states()[-1] == "ended")


async def test_a_frame_whose_taker_has_just_gone_waits_for_the_next_one(tmp_path: Path) -> None:
    """Of a lossless source: each frame's first taker goes in the moment in which it comes, the last with the source."""
    film = write_film(tmp_path / "film.mp4", 5, 25)
    taking: list[asyncio.Task[CameraFrame | None]] = []

    class Status(CameraStatus):
        def saw(self, report: Report) -> None:
            super().saw(report)
            if report.frame is not None:
                taking[-1].cancel()

    settings = camera(film, name="whole", pace="as_fast_as_possible")
    whole = Camera(settings, Status("whole"), Random(0))
    following = asyncio.create_task(whole.run())
    numbers = []
    async with asyncio.timeout(30):
        while not whole.is_over:
            taking.append(asyncio.create_task(whole.next_frame()))
            await asyncio.wait(taking[-1:])
            await asyncio.sleep(0.1)  # time for the source to go on, where nothing keeps it
            if (frame := await whole.next_frame()) is not None:
                numbers.append(number_of(frame.jpeg))
        await following
    assert numbers == [0, 1, 2, 3, 4]


async def test_a_live_frame_whose_taker_has_just_gone_counts_as_skipped() -> None:
    """Another one takes its place, and what became of it is told."""
    taking: list[asyncio.Task[CameraFrame | None]] = []
    skipped_by_capture: list[int] = []

    class Status(CameraStatus):
        def saw(self, report: Report) -> None:
            super().saw(report)
            if report.frame is not None:
                taking[-1].cancel()
                skipped_by_capture.append(report.skipped)

    with mjpeg_camera(jpegs(5), 10) as url:
        live = Camera(camera(url, name="left"), Status("left"), Random(0))
        following = asyncio.create_task(live.run())
        async with asyncio.timeout(30):
            while len(skipped_by_capture) < 3:
                taking.append(asyncio.create_task(live.next_frame()))
                await asyncio.wait(taking[-1:])
        following.cancel()
        await asyncio.wait((following,))
    told = REGISTRY.get_sample_value("perception_camera_frames_total", {"camera": "left", "result": "skipped"})
    assert told == skipped_by_capture[-1] + 3
