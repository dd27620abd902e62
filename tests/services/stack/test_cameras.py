"""What a profile's cameras are, and what the agent is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.camera.settings import read_settings
from services.stack.cameras import write_agent_file
from services.stack.layout import PROJECT, Ports
from services.stack.session import StackOptions
from services.stack.supervisor import StackError

PROFILES = (PROJECT / "models" / "profiles").glob("*.yaml")
WITH_CAMERAS = sorted(path.stem for path in PROFILES if "\ncameras:" in path.read_text())


@pytest.mark.parametrize("profile", WITH_CAMERAS)
def test_the_agent_understands_what_it_is_told(profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPTION_DATA", "/data")
    sources = StackOptions(profile, "auto", 51000).cameras
    ports = Ports(51000)
    settings = read_settings(write_agent_file(tmp_path / "cameras.yaml", sources, ports, films=tmp_path))
    assert {camera.name: camera.source for camera in settings.cameras} == sources
    assert (settings.gateway, settings.port) == (f"127.0.0.1:{ports.gateway}", ports.camera)
    for camera in settings.cameras:
        assert camera.loop
        assert {sink.path for sink in camera.sinks} == {
            tmp_path / f"{camera.name}.mp4",
            tmp_path / f"{camera.name}.jsonl",
        }


def test_the_demo_shows_both_worlds_without_any_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERCEPTION_DATA", raising=False)
    sources = StackOptions("demo", "auto", 51000).cameras
    assert {source.partition("?")[0] for source in sources.values()} == {"scenes:street", "scenes:line"}


def test_films_need_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERCEPTION_DATA", raising=False)
    with pytest.raises(StackError, match="PERCEPTION_DATA, which is not set"):
        _ = StackOptions("street", "auto", 51000).cameras
    monkeypatch.setenv("PERCEPTION_DATA", "/data")
    assert StackOptions("street", "auto", 51000).cameras["camvid"] == "/data/videos/camvid_0016E5_15hz.mp4"


def test_a_stack_can_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERCEPTION_DATA", raising=False)
    assert StackOptions("street", "auto", 51000, with_cameras=False).cameras == {}
