"""What a camera's answers become in files."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path

import av
import pytest
from perception import codecs
from perception.v1 import perception_pb2
from prometheus_client import REGISTRY
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from services.camera.agent import RunningCamera
from services.camera.camera import CameraFrame
from services.camera.capture.protocol import FrameHeader
from services.camera.gateway_stream import SentFrame
from services.camera.settings import SettingsError
from services.camera.sinks.annotated_video import AnnotatedVideo
from services.camera.sinks.base import SinkWriter
from services.camera.sinks.coco_video import CocoVideoFile
from services.camera.sinks.jsonl import JsonlFile
from tests.clients.python.scenes import HEIGHT, IDS, WIDTH, response
from tests.services.camera.sources import camera, jpegs

NOW = 1_700_000_000.0
Answer = perception_pb2.PerceiveStreamResponse


def sent(sequence: int, seconds: float = 0.0, height: int = HEIGHT, width: int = WIDTH) -> SentFrame:
    """A frame that was taken `seconds` after the first."""
    header = FrameHeader(NOW + seconds, "sender", height, width, is_cut=False)
    return SentFrame(sequence, CameraFrame(header, jpegs(1, height, width)[0]), 0.0)


def scene(sequence: int, track: int = 7, epoch: int = 1) -> Answer:
    """The answer to that frame: a tracked car on a road."""
    answer = Answer(sequence=sequence, scene=response(), epoch=epoch, age_microseconds=40_000)
    answer.scene.panoptic.left_out = 3
    answer.scene.panoptic.segments[0].track.CopyFrom(
        perception_pb2.Track(id=track, frames=3, age_microseconds=80_000, velocity_x=1.5, velocity_y=-2)
    )
    return answer


def test_jsonl_has_a_line_for_every_answer(tmp_path: Path) -> None:
    path = tmp_path / "new" / "gate.jsonl"
    late = perception_pb2.FrameDropped(reason=perception_pb2.DROP_REASON_TOO_OLD, message="200 ms late")
    wrong = perception_pb2.FrameError(code="INVALID_ARGUMENT", message="image.encoded: broken JPEG")
    for _ in range(2):  # an agent that starts again adds to the file
        sink = JsonlFile("gate", path)
        sink.add(scene(1), sent(1, 0.5))
        sink.add(Answer(sequence=2, dropped=late), sent(2))
        sink.add(Answer(sequence=3, error=wrong, degradation=1), sent(3))
        sink.close()
    first, second, third = [json.loads(line) for line in path.read_text().splitlines()][3:]
    assert first["capture_time"] == "2023-11-14T22:13:20.500+00:00"
    assert (first["camera"], first["sequence"], first["result"], first["clock"]) == ("gate", 1, "scene", "sender")
    assert (first["age_seconds"], first["epoch"]) == (0.04, 1)
    car, road = first["segments"]
    assert first["left_out"] == 3
    assert (car["category"], car["box"], car["attributes"]) == ("car", [2.0, 1.0, 5.0, 3.0], {"colour": "red"})
    assert car["track"] == {"id": 7, "frames": 3, "age_seconds": 0.08, "velocity": [1.5, -2.0]}
    assert "track" not in road
    assert first["task_status"]["classification"]["code"] == "UNAVAILABLE"
    assert (second["result"], second["reason"], second["message"]) == ("dropped", "too_old", "200 ms late")
    assert (third["result"], third["reason"], third["degradation"]) == ("error", "INVALID_ARGUMENT", "no_attributes")


def test_coco_video_is_whole_and_readable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By COCO's own library; identities count within an epoch, instances over the file."""
    path = tmp_path / "gate.json"
    sink = CocoVideoFile("gate", path)
    sink.add(scene(4, track=7), sent(4))
    sink.add(Answer(sequence=5, dropped=perception_pb2.FrameDropped()), sent(5))
    sink.add(scene(6, track=7), sent(6, 0.1))
    sink.add(scene(7, track=7, epoch=2), sent(7, 0.2))
    untracked = scene(8)
    untracked.scene.panoptic.segments[0].ClearField("track")
    sink.add(untracked, sent(8, 0.3))
    assert not path.exists()
    sink.close()
    assert [file.name for file in tmp_path.iterdir()] == ["gate.json"]

    coco = COCO(str(path))
    capsys.readouterr()
    assert coco.dataset["videos"] == [{"id": 1, "name": "gate", "width": WIDTH, "height": HEIGHT, "length": 4}]
    assert coco.dataset["categories"] == [{"id": 1, "name": "car", "isthing": 1}]
    images = coco.dataset["images"]
    assert [image["file_name"] for image in images] == [f"gate/0000000{n}.jpg" for n in (4, 6, 7, 8)]
    assert [image["frame_index"] for image in images] == [0, 1, 2, 3]
    annotations = coco.dataset["annotations"]
    assert [one.get("instance_id") for one in annotations] == [1, 1, 2, None]
    assert [one.get("track_id") for one in annotations] == [7, 7, 7, None]
    assert annotations[0]["bbox"] == [2, 1, 3, 2]
    assert annotations[0]["area"] == coco_mask.area(coco.annToRLE(annotations[0])) == 6
    mask = codecs.decode_rle(annotations[0]["segmentation"]["counts"].encode(), HEIGHT, WIDTH)
    assert (mask == (IDS == 300)).all()


def test_coco_video_of_a_camera_that_saw_nothing(tmp_path: Path) -> None:
    sink = CocoVideoFile("gate", tmp_path / "gate.json")
    sink.close()
    written = json.loads((tmp_path / "gate.json").read_text())
    assert (written["images"], written["annotations"], written["videos"][0]["length"]) == ([], [], 0)


def test_annotated_video_shows_scenes_at_their_times(tmp_path: Path) -> None:
    """Also where the picture's size changes, and up to the last seconds where nobody closed the file."""
    path = tmp_path / "gate.mp4"
    sink = AnnotatedVideo(path)
    times = [0.0, 0.1, 0.5, 2.0]
    for number, seconds in enumerate(times):
        height, width = (96, 128) if number < 3 else (48, 64)
        answer = scene(number)
        answer.scene.image_size.height, answer.scene.image_size.width = height, width
        sink.add(answer, sent(number, seconds, height, width))
    sink.add(Answer(sequence=9, dropped=perception_pb2.FrameDropped()), sent(9, 9.0))
    sink.close()
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        assert [frame.time for frame in frames] == pytest.approx(times, abs=0.002)
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
    assert {picture.shape for picture in pictures} == {(96, 128, 3)}
    # The picture is black; the road below is grey, the car above it orange.
    assert pictures[0][90, 5].max() > 20
    assert int(pictures[0][24, 40, 0]) > int(pictures[0][24, 40, 2]) + 40


def test_annotated_video_of_a_film_keeps_the_film_s_pace(tmp_path: Path) -> None:
    """However long each frame took, and on from its end where the film starts again."""
    sink = AnnotatedVideo(tmp_path / "gate.mp4")
    positions = [0.0, 0.04, 0.08, 0.0, 0.04]
    for number, position in enumerate(positions):
        slow = sent(number, seconds=3.0 * number)
        header = replace(slow.frame.header, position=position, is_cut=number == 3)
        sink.add(scene(number), replace(slow, frame=replace(slow.frame, header=header)))
    sink.close()
    with av.open(str(tmp_path / "gate.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([0.0, 0.04, 0.08, 0.081, 0.121], abs=0.002)


class Blocked:
    """A sink as slow as the test wants."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.taken: list[int] = []
        self.is_closed = False

    def add(self, answer: Answer, sent: SentFrame) -> None:
        self.go.wait(20)
        if answer.sequence == 13:
            raise OSError("no space left on device")
        self.taken.append(answer.sequence)

    def close(self) -> None:
        self.is_closed = True


def dropped(name: str) -> float:
    value = REGISTRY.get_sample_value("perception_camera_sink_dropped_total", {"camera": name, "sink": "jsonl"})
    assert value is not None
    return value


async def test_slow_sink_misses_answers_of_a_live_camera() -> None:
    blocked = Blocked()
    writer = SinkWriter("slow", "jsonl", blocked, is_lossless=False)
    writing = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    for number in range(100, 200):
        writer.add(Answer(sequence=number), sent(number))
    await writer.room()  # a live camera never waits
    assert dropped("slow") == pytest.approx(68, abs=1)
    blocked.go.set()
    writer.end()
    await writing
    assert blocked.taken == list(range(100, 100 + len(blocked.taken)))
    assert len(blocked.taken) + dropped("slow") == 100
    assert blocked.is_closed


async def test_lossless_camera_waits_for_its_sink() -> None:
    blocked = Blocked()
    writer = SinkWriter("whole", "jsonl", blocked, is_lossless=True)
    writing = asyncio.create_task(writer.run())
    for number in range(100, 140):
        writer.add(Answer(sequence=number), sent(number))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await writer.room()
    blocked.go.set()
    async with asyncio.timeout(5):
        await writer.room()
    writer.end()
    await writing
    assert blocked.taken == list(range(100, 140))


async def test_sink_that_fails_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """The camera goes on, and what the sink misses is counted."""
    blocked = Blocked()
    blocked.go.set()
    writer = SinkWriter("full", "jsonl", blocked, is_lossless=True)
    writing = asyncio.create_task(writer.run())
    for number in (12, 13, 14, 15):
        writer.add(Answer(sequence=number), sent(number))
    writer.end()
    await writing
    writer.add(Answer(sequence=16), sent(16))
    assert blocked.taken == [12]
    assert dropped("full") == 3
    assert "sink given up" in caplog.text
    assert "no space left on device" in caplog.text


def test_sink_that_cannot_be_opened_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sinks = [{"kind": "jsonl", "path": tmp_path / "file" / "gate.jsonl"}]
    with pytest.raises(SettingsError, match=r"camera gate: sinks\[0\]: cannot write .*gate.jsonl: "):
        RunningCamera(camera("photos", sinks=sinks), None)  # type: ignore[arg-type]  # it comes to no call
