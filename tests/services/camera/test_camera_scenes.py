"""The project's scenes as a camera."""

from __future__ import annotations

import asyncio
from pathlib import Path

import av
import pytest

from services.camera.capture.options import SourceError
from services.camera.scenes import film_of
from services.camera.settings import ScenesSettings


async def test_scenes_are_filmed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cameras that show the same scenes at once, and one later: one film."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    scenes = ScenesSettings.read("scenes:line?seed=3&length=4&width=96&height=64")
    first, second = await asyncio.gather(film_of(scenes), film_of(scenes))
    assert first == second
    with av.open(str(first)) as container:
        frames = list(container.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(96, 64)] * 4
    made = first.stat().st_mtime_ns
    assert await film_of(scenes) == first
    assert first.stat().st_mtime_ns == made
    assert [path.name for path in first.parent.iterdir()] == [first.name]


async def test_filming_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    task = asyncio.create_task(film_of(ScenesSettings.read("scenes:street?length=5000")))
    await asyncio.sleep(0.3)
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert list(tmp_path.rglob("*.mp4")) == []  # noqa: ASYNC240


async def test_scenes_that_cannot_be_kept_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "perception").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SourceError, match=r"cannot be kept: .*perception"):
        await film_of(ScenesSettings.read("scenes:line"))
