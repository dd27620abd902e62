"""What `cameras.yaml` may hold, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.camera.settings import SettingsError, read_settings

GOOD = """
gateway: gateway:50050
port: 50061
cameras:
  - name: gate
    source: rtsp://me:secret@10.0.0.7/stream1
    transport: udp
    max_width: 1280
    frames_per_second: 10
    stream: {deadline_seconds: 0.5, max_in_flight: 3, priority: high, track: false}
    sinks:
      - {kind: jsonl, path: out/gate.jsonl}
      - {kind: coco_video, path: out/gate.json}
      - {kind: annotated_video, path: out/gate.mp4}
  - {name: hall, source: "http://10.0.0.8/video.mjpg"}
  - {name: film, source: out/film.mp4, pace: as_fast_as_possible, loop: true}
  - {name: folder, source: photos}
  - {name: desk, source: /dev/video0}
  - {name: street, source: "scenes:street?seed=1&length=50"}
"""


def read(path: Path, text: str) -> None:
    path.write_text(text)
    read_settings(path)


def test_every_kind_of_source(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(GOOD)
    settings = read_settings(tmp_path / "cameras.yaml")
    assert [camera.kind for camera in settings.cameras] == ["rtsp", "http", "video", "images", "v4l2", "scenes"]
    gate, hall, film, folder, _, street = (camera.capture_options(Path("film.mp4")) for camera in settings.cameras)
    assert (gate.transport, gate.max_width, gate.frames_per_second, gate.is_live) == ("udp", 1280, 10, True)
    assert (hall.frames_per_second, hall.is_lossless) == (None, False)
    assert (film.is_lossless, film.loop) == (True, True)
    assert (folder.frames_per_second, folder.is_paced) == (10.0, True)
    assert (street.kind, street.location) == ("video", "film.mp4")
    assert [sink.kind for sink in settings.cameras[0].sinks] == ["jsonl", "coco_video", "annotated_video"]


def one(camera: str) -> str:
    return f"cameras:\n  - {{name: gate, {camera}}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "expected keys such as gateway and cameras, found [1]"),
        ("cameras: [", "expected YAML; "),
        ("cameras: [gate]", "cameras[0]: "),
        ("gateway: here", "cameras: missing"),
        ("cameras: []", "cameras: expected at least one"),
        ("gatewy: here\ncameras: [{name: gate, source: a}]", "gatewy: unknown key"),
        (one("source: a, sorce: b"), "cameras[0] (gate).sorce: unknown key"),
        (one("source: a, stream: {tracks: true}"), "cameras[0] (gate).stream.tracks: unknown key"),
        (one("sinks: []"), "cameras[0] (gate).source: missing"),
        ("cameras: [{name: a b, source: a}]", "cameras[0] (a b).name: String should match pattern"),
        ("cameras: [{name: a, source: a}, {name: a, source: b}]", "expected no two cameras of one name, found a"),
        (one("source: a, jpeg_quality: 0"), "jpeg_quality: Input should be greater than or equal to 1, found 0"),
        (one("source: a, frames_per_second: .nan"), "cameras[0] (gate).frames_per_second: "),
        (one("source: a.mp4, transport: udp"), "transport: expected only with a source of rtsp, found one of video"),
        (one("source: 'rtsp://a', loop: true"), "loop: expected only with a source of video or images or scenes"),
        (one("source: a, retry_seconds: 9, max_retry_seconds: 3"), "expected at least retry_seconds 9.0, found 3.0"),
        (one("source: 'scenes:moon'"), "scenes:moon: world: Input should be 'street' or 'line', found 'moon'"),
        (one("source: 'scenes:line?speed=3'"), "scenes:line?speed=3: speed: unknown key"),
        (one("source: 'scenes:line?width=641'"), "width: Input should be a multiple of 2, found '641'"),
        (one("source: a, sinks: [{kind: csv, path: b}]"), "cameras[0] (gate).sinks[0]: "),
        (one("source: a, sinks: [{kind: jsonl, path: b, gzip: 1}]"), "cameras[0] (gate).sinks[0].gzip: unknown key"),
        (one("source: a, sinks: [{kind: annotated_video, path: b.avi}]"), "expected an .mp4 file, found b.avi"),
        (
            "cameras:\n- {name: a, source: a, sinks: [{kind: jsonl, path: x/../b}]}\n"
            "- {name: b, source: b, sinks: [{kind: jsonl, path: b}]}",
            "expected no two sinks of one path, found ",
        ),
    ],
)
def test_mistakes_name_file_and_key(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "cameras.yaml"
    with pytest.raises(SettingsError) as caught:
        read(path, text)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines() if "YAML" not in expected)
    assert expected in str(caught.value)
    assert "secret" not in str(caught.value)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone.yaml: cannot be read: .*No such file"):
        read_settings(tmp_path / "gone.yaml")


def test_example_in_the_documentation_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "cameras.md").read_text()
    blocks = [block.partition("```")[0] for block in text.split("```yaml\n")[1:]]
    assert blocks
    for block in blocks:
        read(tmp_path / "cameras.yaml", block)
