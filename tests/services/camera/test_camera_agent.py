"""The agent as a process of its own: against a real gateway, and over many reconnects."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import pytest
import simplejpeg
import yaml
from perception.v1 import camera_pb2
from typer.testing import CliRunner

from services.camera.cli import app
from tests.services.camera.sources import jpegs
from tests.support.camera_agent import AgentProcess
from tests.support.contract_models import picture, write_repository
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.rtsp import RtspServer
from tests.support.service import PROJECT, ServiceProcess
from tests.support.stack import TAXONOMY
from tests.support.triton import free_ports

SHORT = {"retry_seconds": 0.1, "max_retry_seconds": 0.2}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Starts real gateways before a real detection service; both die with the tests."""
    directory = tmp_path_factory.mktemp("gateway")
    repository = write_repository(directory / "models")
    (directory / "contract.yaml").write_text(TAXONOMY)

    @contextmanager
    def started(**settings: object) -> Iterator[ServiceProcess]:
        urls = {"DETECTION_URL": detection.address, "TAXONOMY": directory / "contract.yaml"}
        with ServiceProcess("gateway", directory, **urls, **settings) as process:
            yield process.wait_until_ready()

    with ServiceProcess("detection", directory, ENGINE="onnxruntime", MODEL_REPOSITORY=repository) as detection:
        detection.wait_until_ready()
        yield started


def green_camera() -> list[bytes]:
    """A green thing that moves to the right and back again."""
    there = [picture(48, 64, (4 + number, 8, 24 + number, 30)) for number in range(10)]
    return [simplejpeg.encode_jpeg(pixels, 95, "RGB") for pixels in there + there[-2:0:-1]]


def test_camera_to_files_through_the_real_gateway(gateway: Callable[..., Any], tmp_path: Path) -> None:
    """Sources, gateway, sinks, metrics; the gateway is killed in mid-stream and comes back; all files are whole."""
    port = free_ports(1)[0]
    sinks = [
        {"kind": "jsonl", "path": str(tmp_path / "gate.jsonl")},
        {"kind": "coco_video", "path": str(tmp_path / "gate.json")},
        {"kind": "annotated_video", "path": str(tmp_path / "gate.mp4")},
    ]
    stream = {"deadline_seconds": 5}
    with mjpeg_camera(green_camera(), 10) as url:
        gate = {"name": "gate", "source": url, "sinks": sinks, "stream": stream, **SHORT}
        gone = {"name": "gone", "source": str(tmp_path / "gone.mp4"), **SHORT}
        with AgentProcess(tmp_path, f"127.0.0.1:{port}", [gate, gone]) as agent:
            agent.until(lambda status: status.state == camera_pb2.CAMERA_STATE_STREAMING)
            assert not agent.camera().gateway_connected
            with gateway(PORT=port):
                agent.until(lambda status: status.perceived >= 8)
                assert agent.camera().gateway_connected
            agent.until(lambda status: not status.gateway_connected)
            perceived = agent.camera().perceived
            assert agent.metrics()["perception_camera_gateway_connected", "gate", ""] == 0
            with gateway(PORT=port):
                agent.until(lambda status: status.perceived >= perceived + 8)
                exported = agent.metrics()
                status = agent.camera("gone")
                assert agent.stop() == 0, agent.log()
            # gRPC's own words about the gateway's end are no JSON.
            log = [json.loads(line) for line in agent.log().splitlines() if "chttp2_transport" not in line]

    assert status.state in (camera_pb2.CAMERA_STATE_WAITING, camera_pb2.CAMERA_STATE_CONNECTING)
    assert exported["perception_camera_gateway_connected", "gate", ""] == 1
    assert exported["perception_camera_state", "gate", "streaming"] == 1
    assert exported["perception_camera_state", "gate", "waiting"] == 0
    assert exported["perception_camera_frames_total", "gate", "perceived"] >= 16
    assert exported["perception_camera_reconnects_total", "gone", ""] >= 1
    assert 5 < exported["perception_camera_frames_per_second", "gate", ""] < 15
    assert exported["perception_camera_last_frame_age_seconds", "gate", ""] < 5
    answered = exported["perception_camera_frames_total", "gate", "perceived"]
    assert exported["perception_camera_answer_age_seconds_count", "gate", ""] == answered
    assert 0 < exported["perception_camera_answer_age_seconds_sum", "gate", ""] / answered < 5
    assert exported["perception_camera_tracks", "gate", ""] == 1
    assert exported["perception_camera_tracks", "gone", ""] == 0
    assert {line["camera"] for line in log if line["message"] == "camera waiting"} == {"gone"}
    assert any(line["message"] == "no stream to the gateway" and line["camera"] == "gate" for line in log)

    records = [json.loads(line) for line in (tmp_path / "gate.jsonl").read_text().splitlines()]
    sequences = [record["sequence"] for record in records]
    assert sequences == sorted(set(sequences)), "a frame was answered twice"
    scenes = [record for record in records if record["result"] == "scene"]
    assert len(scenes) >= 16
    assert {segment["category"] for record in scenes for segment in record["segments"]} == {"green"}
    # The thing keeps its identity, until the gateway is another one or nothing was seen for a while: a frame that the
    # first gateway left unanswered is sent again to the next one, and lies seconds before those that follow.
    spells: list[set[tuple[int, int]]] = []
    before = datetime.min.replace(tzinfo=UTC)
    for record in scenes:
        captured = datetime.fromisoformat(record["capture_time"])
        if not spells or captured - before > timedelta(seconds=0.5):
            spells.append(set())
        before = captured
        spells[-1] |= {
            (record["epoch"], segment["track"]["id"]) for segment in record["segments"] if "track" in segment
        }
    for spell in spells:
        assert len(spell) == len({epoch for epoch, _ in spell}), spells
    assert len({epoch for spell in spells for epoch, _ in spell}) == 2
    epochs = [record["epoch"] for record in records]
    assert epochs == sorted(epochs)
    coco = json.loads((tmp_path / "gate.json").read_text())
    assert len(coco["images"]) == len(coco["annotations"]) == len(scenes)
    with av.open(str(tmp_path / "gate.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(scenes)


@pytest.mark.timeout(300)  # twenty times a server and a capture process start
def test_twenty_reconnects_leave_nothing_behind(
    gateway: Callable[..., Any], access_units: Path, tmp_path: Path
) -> None:
    """A camera that is cut off twenty times comes back each time, says so, and costs what it cost before."""
    with RtspServer(access_units) as server, gateway() as running:
        gate = {"name": "gate", "source": server.url, "frames_per_second": 5, **SHORT}
        with AgentProcess(tmp_path, running.address, [gate]) as agent:
            seen: list[tuple[float, int, int]] = []
            perceived = reconnects = 0
            for _ in range(21):
                agent.until(lambda status: status.state == camera_pb2.CAMERA_STATE_STREAMING)
                assert agent.states_in_metrics() == ["streaming"]
                # The first attempt that could, did: one may have been under way when the server was not there yet.
                assert agent.camera().reconnects - reconnects <= 2
                agent.until(lambda status, before=perceived: status.perceived > before)
                seen.append((agent.resident_megabytes(), agent.open_files(), len(agent.children())))
                server.kill()
                agent.until(lambda status: status.state != camera_pb2.CAMERA_STATE_STREAMING)
                assert agent.states_in_metrics() in (["waiting"], ["connecting"])
                server.start()
                perceived, reconnects = agent.camera().perceived, agent.camera().reconnects
            counted = agent.metrics()["perception_camera_reconnects_total", "gate", ""]
            assert agent.camera().reconnects >= counted >= 20
            assert agent.stop() == 0
    megabytes, files, children = zip(*seen, strict=True)
    print(f"RSS {megabytes[0]:.1f} MB, after 3 {megabytes[3]:.1f}, after 20 {megabytes[20]:.1f}; files {files}")
    assert set(children) == {1}
    assert max(files) - min(files[1:]) <= 1
    assert megabytes[20] - megabytes[3] < 2


def test_files_are_played_to_their_end(gateway: Callable[..., Any], tmp_path: Path) -> None:
    """The agent ends by itself when all its sources have."""
    for number, jpeg in enumerate(green_camera()):
        (tmp_path / f"{number:02d}.jpg").write_bytes(jpeg)
    sinks = [{"kind": "jsonl", "path": str(tmp_path / "folder.jsonl")}]
    folder = {"name": "folder", "source": str(tmp_path), "pace": "as_fast_as_possible", "sinks": sinks}
    with gateway() as running:
        agent = AgentProcess(tmp_path, running.address, [folder])
        try:
            assert agent.process.wait(60) == 0, agent.log()
        finally:
            agent.end()
    records = [json.loads(line) for line in (tmp_path / "folder.jsonl").read_text().splitlines()]
    assert [record["sequence"] for record in records] == list(range(1, 19))
    assert {record["result"] for record in records} == {"scene"}


def test_check_tells_what_sources_give(tmp_path: Path) -> None:
    """And fails where one gives nothing; a wrong file is refused with its key."""
    for number, jpeg in enumerate(jpegs(3)):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg)
    config = tmp_path / "cameras.yaml"
    good = {"name": "good", "source": str(tmp_path), "pace": "as_fast_as_possible", "max_width": 32}
    config.write_text(yaml.safe_dump({"cameras": [good]}))
    result = CliRunner().invoke(app, ["check", str(config)])
    assert result.exit_code == 0
    assert "64x48" in result.output
    assert "32x24" in result.output
    config.write_text(yaml.safe_dump({"cameras": [good, {"name": "bad", "source": "gone.mp4"}]}))
    result = CliRunner().invoke(app, ["check", str(config)], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "No such file or directory" in result.output
    config.write_text("cameras: [{name: a, source: b, fps: 3}]")
    result = CliRunner().invoke(app, ["check", str(config)])
    assert (result.exit_code, "cameras[0] (a).fps: unknown key" in result.output) == (2, True)


def test_watch_prints_what_a_camera_sees(gateway: Callable[..., Any], tmp_path: Path) -> None:
    with mjpeg_camera(green_camera(), 10) as url, gateway() as running:
        gate = {"name": "gate", "source": url, **SHORT}
        with AgentProcess(tmp_path, running.address, [gate]) as agent:
            agent.until(lambda status: status.perceived > 0)
            watching = subprocess.Popen(
                [sys.executable, "-m", "services.camera.cli", "watch", f"127.0.0.1:{agent.port}", "gate"],
                cwd=PROJECT,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert watching.stdout is not None
            lines = []
            while len(lines) < 100 and "1 green" not in "".join(lines):
                lines.append(watching.stdout.readline())
            assert agent.stop() == 0
            rest = watching.stdout.read()
            assert watching.wait(20) == 0
            watching.stdout.close()
    assert all(line.startswith("gate | streaming | ") for line in lines)
    assert "1 green" in "".join(lines)
    assert "the agent is stopping" in rest
    refused = CliRunner().invoke(app, ["watch", f"127.0.0.1:{free_ports(1)[0]}", "gate"])
    assert refused.exit_code == 1
