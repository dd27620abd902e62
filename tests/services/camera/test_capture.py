"""The capture process against real sources."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from statistics import median

import av
import cv2
import numpy as np
import pytest
import simplejpeg

from services.camera.capture.protocol import FrameHeader, Report
from services.camera.capture_process import capturing
from services.camera.settings import CameraSettings
from tests.services.camera.sources import black_hole, camera, jpegs, number_of, picture, write_film
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.rtsp import RtspServer
from tests.support.triton import free_ports


async def reports(settings: CameraSettings) -> AsyncGenerator[tuple[Report, bytes], None]:
    """Everything that a capture process says while frames are wanted, until its source is over."""
    async with capturing(settings.capture_options()) as process:
        while True:
            report, jpeg = await process.ask(wants_frame=True)
            yield report, jpeg
            if report.phase in ("ended", "failed"):
                return


async def frames(
    settings: CameraSettings, most: int = 1000, until: Callable[[FrameHeader], bool] = lambda header: False
) -> list[tuple[FrameHeader, bytes, float]]:
    """The frames of a source, with the time of their arrival here; up to the first that `until` holds for."""
    taken: list[tuple[FrameHeader, bytes, float]] = []
    async with aclosing(reports(settings)) as source:
        async for report, jpeg in source:
            assert report.phase != "failed", report.reason
            if report.frame is not None:
                taken.append((report.frame, jpeg, time.time()))
            if len(taken) == most or (report.frame is not None and until(report.frame)):
                break
    return taken


async def failure(settings: CameraSettings) -> str:
    """Why a source fails."""
    async with aclosing(reports(settings)) as source:
        async for report, _ in source:
            if report.phase == "failed":
                return report.reason
            assert report.frame is None
    raise AssertionError("ended without a failure")


async def test_file_as_fast_as_possible_leaves_no_frame_out(tmp_path: Path) -> None:
    """More frames than could be taken at its pace in the time; each once and in order."""
    film = write_film(tmp_path / "film.mp4", 20, 2)
    taken = await frames(camera(film, pace="as_fast_as_possible"))
    assert [number_of(jpeg) for _, jpeg, _ in taken] == list(range(20))
    assert {(header.height, header.width, header.clock) for header, _, _ in taken} == {(48, 64, "played")}
    assert taken[-1][2] - taken[0][2] < 5  # of the 9.5 s that it lasts


async def test_file_at_its_own_pace(tmp_path: Path) -> None:
    """A second of film takes a second, and a frame that nobody takes in time is replaced by the next."""
    film = write_film(tmp_path / "film.mp4", 21, 20)
    async with capturing(camera(film).capture_options()) as process:
        first, jpeg = await process.ask(wants_frame=True)
        while first.frame is None:
            first, jpeg = await process.ask(wants_frame=True)
        start = time.monotonic()
        assert number_of(jpeg) == 0
        last = first
        while last.arrived < 10:
            last, _ = await process.ask(wants_frame=False)
        newest, jpeg = await process.ask(wants_frame=True)
        assert newest.frame is not None
        assert number_of(jpeg) >= 9
        assert newest.skipped >= 8
        assert time.time() - newest.frame.capture_time < 0.5
        while newest.phase != "ended":
            newest, _ = await process.ask(wants_frame=True)
        assert newest.arrived == 21
        assert time.monotonic() - start == pytest.approx(1.0, abs=0.4)


async def test_file_that_loops_says_where_it_starts_again(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 3, 10)
    taken = await frames(camera(film, pace="as_fast_as_possible", loop=True), most=7)
    assert [number_of(jpeg) for _, jpeg, _ in taken] == [0, 1, 2, 0, 1, 2, 0]
    assert [header.is_cut for header, _, _ in taken] == [False, False, False, True, False, False, True]


async def test_frames_per_second_are_thinned_evenly(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", 25, 25)
    taken = await frames(camera(film, pace="as_fast_as_possible", frames_per_second=5))
    assert [number_of(jpeg) for _, jpeg, _ in taken] == [0, 5, 10, 15, 20]


async def test_folder_of_images(tmp_path: Path) -> None:
    """By name; JPEG passes as it is, PNG becomes JPEG, a large one of either kind is scaled, EXIF is heeded."""
    plain, large = jpegs(1)[0], simplejpeg.encode_jpeg(picture(3, 100, 200), 95, "RGB")
    (tmp_path / "a.jpg").write_bytes(plain)
    cv2.imwrite(str(tmp_path / "b.png"), picture(2))
    (tmp_path / "c.jpg").write_bytes(large)
    # Lies on its side: 64 wide as stored, 48 as displayed.
    exif = bytes.fromhex("ffe1 0022 457869660000 4d4d002a00000008 0001 0112 0003 00000001 0006 0000 00000000")
    (tmp_path / "d.jpeg").write_bytes(plain[:2] + exif + plain[2:])
    (tmp_path / "notes.txt").write_text("no picture")
    settings = camera(tmp_path, pace="as_fast_as_possible", max_width=100)
    taken = await frames(settings)
    assert [(header.height, header.width) for header, _, _ in taken] == [(48, 64), (48, 64), (50, 100), (64, 48)]
    assert taken[0][1] == plain
    assert [number_of(jpeg) for _, jpeg, _ in taken] == [0, 2, 3, 0]


async def test_folder_keeps_its_pace(tmp_path: Path) -> None:
    for number, jpeg in enumerate(jpegs(6)):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg)
    taken = await frames(camera(tmp_path, frames_per_second=10))
    gaps = [after[0].capture_time - before[0].capture_time for before, after in pairwise(taken)]
    assert median(gaps) == pytest.approx(0.1, abs=0.04)


async def test_mjpeg_passes_through_or_is_scaled() -> None:
    pictures = jpegs(5, 96, 128)
    with mjpeg_camera(pictures, 25) as url:
        taken = await frames(camera(url), most=5)
        assert {jpeg for _, jpeg, _ in taken} <= set(pictures)
        assert {header.clock for header, _, _ in taken} == {"arrival"}
        scaled = await frames(camera(url, max_height=48), most=3)
    assert {(header.height, header.width) for header, _, _ in scaled} == {(48, 64)}
    assert {jpeg not in pictures for _, jpeg, _ in scaled} == {True}


async def test_mjpeg_at_another_rate_than_25_grows_no_older() -> None:
    """It tells no times, and FFmpeg would make up some at 25 frames a second."""
    with mjpeg_camera(jpegs(5), 10) as url:
        taken = await frames(camera(url), most=20)
    gaps = [after.capture_time - before.capture_time for (before, _, _), (after, _, _) in pairwise(taken)]
    assert sum(gaps) / len(gaps) > 0.07


async def test_broken_pictures_are_left_out() -> None:
    good = jpegs(3)
    with mjpeg_camera([good[1], b"\xff\xd8 no picture \xff\xd9", good[2]], 50) as url:
        taken = await frames(camera(url, max_width=32), most=8)
    assert {number_of(jpeg) for _, jpeg, _ in taken} == {1, 2}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_rtsp(access_units: Path, h264: Path, transport: str) -> None:
    """Frames of the real film arrive soon after they were taken, by the clock of the camera itself in the end."""
    with RtspServer(access_units) as server:
        settings = camera(server.url, transport=transport, jpeg_quality=95)
        taken = await frames(settings, most=250, until=lambda header: header.clock == "sender")
    headers = [header for header, _, _ in taken]
    assert {(header.height, header.width) for header in headers} == {(540, 960)}
    assert headers[-1].clock == "sender"
    assert all(after.capture_time >= before.capture_time for before, after in pairwise(headers))
    assert all(header.capture_time <= arrival for header, _, arrival in taken)
    assert min(arrival - header.capture_time for header, _, arrival in taken) < 0.5
    with av.open(str(h264)) as container:
        first = next(container.decode(video=0)).to_ndarray(format="rgb24")
    # The server plays from the start for its first client, and some frames pass before ours is asked for.
    sent = simplejpeg.decode_jpeg(taken[0][1], "RGB")
    assert np.abs(sent.astype(int) - first).mean() < 12


@pytest.mark.parametrize(("space", "yellow"), [("itu709", 1), ("itu601", 5)])
async def test_colours_are_kept(tmp_path: Path, space: str, yellow: int) -> None:
    """A film says with which matrix its colours were coded: HD has another one than JPEG."""
    colours = np.zeros((48, 64, 3), np.uint8)
    colours[:, :16], colours[:, 16:32], colours[:, 32:48] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    film = tmp_path / "film.mkv"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace = yellow
        frame = av.VideoFrame.from_ndarray(colours, format="rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=space)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    ((_, jpeg, _),) = await frames(camera(film, pace="as_fast_as_possible", jpeg_quality=100))
    seen = simplejpeg.decode_jpeg(jpeg, "RGB").astype(int)
    for left in (2, 18, 34):
        assert np.abs(seen[:, left : left + 12] - colours[:, left : left + 12]).max() < 12


async def test_broken_sources_say_why(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty").mkdir()
    port = free_ports(1)[0]
    expected = {
        tmp_path / "gone.mp4": "No such file or directory",
        tmp_path / "text.mp4": "Invalid data found when processing input",
        tmp_path / "empty": "no picture in it",
        tmp_path / "gone": "no such folder",
        "/dev/video99": "No such file or directory",
        # The password stays out of what anybody sees.
        f"rtsp://me:secret@127.0.0.1:{port}/camera": "Connection refused",
    }
    failures = await asyncio.gather(*(failure(camera(source)) for source in expected))
    assert dict(zip(expected, failures, strict=True)) == expected


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
async def test_source_that_never_answers_is_let_go_at_once(scheme: str) -> None:
    with black_hole() as port:
        async with capturing(camera(f"{scheme}://127.0.0.1:{port}/camera").capture_options()) as process:
            for _ in range(3):
                report, _ = await process.ask(wants_frame=True)
                assert report.phase == "opening"
            start = time.monotonic()
        assert time.monotonic() - start < 3.0
