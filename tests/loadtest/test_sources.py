"""Frames come from pictures, films and scenes, and a source that has none says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.sources import SourceError, frames_of


def test_scenes_are_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = "scenes:line?length=2&width=128&height=96"
    with frames_of(source) as first:
        assert first.size == (96, 128)
        assert len(first.paths) == 2
        times = [path.stat().st_mtime_ns for path in first.paths]
    with frames_of(source) as second:
        assert second == first
        assert [path.stat().st_mtime_ns for path in second.paths] == times


def test_scenes_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SourceError, match="weather"), frames_of("scenes:street?weather=rain"):
        pass
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no pictures"), frames_of(str(tmp_path)):
        pass
