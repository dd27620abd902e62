"""`perception run`, `up` and `down` as a person calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import grpc
import pytest
from perception import PerceptionClient
from perception.v1 import camera_pb2, camera_pb2_grpc

from services.stack.layout import PROJECT, Ports
from services.stack.supervisor import require_free
from tests.support.service import eventually
from tests.support.stack import free_range

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

INTERRUPTED = 130


def _command(*arguments: str | Path, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    # Wide enough that no path in the output is broken in two.
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def _run(*arguments: str | Path) -> tuple[int, str]:
    with _command(*arguments) as process:
        output, _ = process.communicate(timeout=200)
    return process.returncode, output


@pytest.fixture
def port_base() -> Iterator[int]:
    """Ports for a stack; whatever the test did, nothing may listen on them at its end."""
    base = free_range()
    yield base
    require_free(Ports(base).all())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one frame of each world."""
    folder = tmp_path_factory.mktemp("samples")
    status, output = _run("models", "samples", "demo", "--output", folder)
    assert status == 0, output
    frames = folder / "frames"
    frames.mkdir()
    for world in ("street", "line"):
        first = sorted((folder / "images").glob(f"{world}*/*.jpg"))[0]
        (frames / f"{world}.jpg").write_bytes(first.read_bytes())
    return frames


def test_run_does_the_main_job_twice_in_a_row(port_base: int, pictures: Path, tmp_path: Path) -> None:
    for attempt in ("first", "second"):
        output = tmp_path / attempt
        status, printed = _run("run", "--source", pictures, "--output", output, "--port-base", str(port_base))
        assert status == 0, printed
        assert "2 scenes" in printed
        records = [json.loads(line) for line in (output / "scenes.jsonl").read_text().splitlines()]
        assert [record["frame"] for record in records] == ["line", "street"]
        for record in records:
            assert {status["state"] for status in record["task_status"].values()} <= {"OK", "SKIPPED"}
            assert len(record["segments"]) >= 3
            picture = cv2.imread(str(output / f"{record['frame']}.jpg"))
            assert picture.shape[:2] == (record["image_size"]["height"], record["image_size"]["width"])


def test_run_shows_both_worlds_as_live_cameras(port_base: int, tmp_path: Path) -> None:
    status, printed = _run("run", "--camera-seconds", "5", "--output", tmp_path, "--port-base", str(port_base))
    assert status == 0, printed
    assert "panoptic quality against the truth" in printed
    for camera in ("street", "line"):
        answers = [json.loads(line) for line in (tmp_path / "cameras" / f"{camera}.jsonl").read_text().splitlines()]
        scenes = [answer for answer in answers if answer["result"] == "scene"]
        assert scenes
        assert {answer["result"] for answer in answers} <= {"scene", "dropped"}
        with av.open(str(tmp_path / "cameras" / f"{camera}.mp4")) as film:
            assert sum(1 for _ in film.decode(video=0)) == len(scenes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_can_be_interrupted(port_base: int, pictures: Path, tmp_path: Path, number: signal.Signals) -> None:
    with _command("run", "--source", pictures, "--output", tmp_path, "--port-base", str(port_base)) as process:
        while not _logs_of_services(port_base):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, printed
    assert "Traceback" not in printed


def _logs_of_services(port_base: int) -> list[Path]:
    logs = PROJECT / ".cache" / "stack" / str(port_base) / "logs"
    return [path for path in logs.glob("gateway.log") if path.stat().st_size]


# What a person may get wrong: the words that say so.
MISTAKES = [
    (["--source", "no/such/file.jpg"], "no/such/file.jpg: no such file"),
    (["--profile", "nothing"], "nothing"),
    (["--source", "Makefile"], "1 frames failed"),  # a file that is no picture: the gateway's answer is shown
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_run_says_what_is_wrong(port_base: int, tmp_path: Path, arguments: list[str], words: str) -> None:
    status, printed = _run("run", *arguments, "--output", tmp_path, "--port-base", str(port_base))
    assert status == 1
    assert words in printed
    assert "Traceback" not in printed


def test_up_leaves_a_stack_running_and_down_stops_it(port_base: int, pictures: Path) -> None:
    base = ("--port-base", str(port_base))
    status, printed = _run("up", "--detach", *base)
    try:
        assert status == 0, printed
        assert f"127.0.0.1:{port_base}" in printed
        with PerceptionClient(f"127.0.0.1:{port_base}") as client:
            assert client.perceive(pictures / "street.jpg").panoptic.segments
        ports = Ports(port_base)
        assert f"http://127.0.0.1:{ports.viewer}" in printed
        with urllib.request.urlopen(f"http://127.0.0.1:{ports.viewer}/") as page:
            assert b"<html" in page.read()
        with grpc.insecure_channel(f"127.0.0.1:{ports.camera}") as channel:
            agent = camera_pb2_grpc.CameraServiceStub(channel)
            eventually(lambda: all(camera.perceived for camera in _cameras(agent)), seconds=60)
            assert {camera.name for camera in _cameras(agent)} == {"street", "line"}
        status, printed = _run("up", "--detach", *base)
        assert status == 1
        assert "already" in printed
        status, printed = _run("run", "--source", pictures, *base)
        assert status == 1
        assert f"ports already taken: {port_base}" in printed
    finally:
        status, printed = _run("down", *base)
    assert (status, "stopped" in printed) == (0, True), printed
    assert "no stack runs" in _run("down", *base)[1]


def _cameras(agent: camera_pb2_grpc.CameraServiceStub) -> list[camera_pb2.CameraStatus]:
    return list(agent.ListCameras(camera_pb2.ListCamerasRequest(), timeout=5).cameras)


@pytest.mark.parametrize("command", [[], ["up"], ["down"], ["run"], ["models"], ["models", "build"], ["loadtest", "open"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    status, printed = _run(*command, "--help")
    assert status == 0
    assert "Usage" in printed
