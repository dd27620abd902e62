"""The project's procedural scenes as a camera: a film of them, made once and then played."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import uuid
from importlib.metadata import version
from pathlib import Path

from services.camera import processes
from services.camera.capture.options import SourceError
from services.camera.settings import ScenesSettings

_LAST_LINES = 3

log = logging.getLogger(__name__)


def film_path(scenes: ScenesSettings) -> Path:
    """Where the film of these scenes is kept: the same scenes always give the same film."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"{scenes.world}_{scenes.seed}_{scenes.length}_{scenes.width}x{scenes.height}.mp4"
    return cache / "perception" / "scenes" / version("perception-services") / name


async def film_of(scenes: ScenesSettings) -> Path:
    """The film of these scenes; makes it where there is none yet, a second for some ten frames.

    `models.datasets` makes it as a process of its own, because services hold no part of models. Raises `SourceError`
    with what it said where it fails.
    """
    film = film_path(scenes)
    if film.is_file():
        return film
    try:
        film.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(f"the film of the scenes cannot be kept: {error}") from None
    log.info("making a film of scenes", extra={"film": str(film), "frames": scenes.length})
    unfinished = film.with_suffix(f".{uuid.uuid4().hex}.mp4")  # two cameras may show the same scenes
    options = [f"--{key}={value}" for key, value in scenes]
    process = processes.start_python(
        "models.datasets.cli", "scenes", str(unfinished), *options, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, errors = await asyncio.to_thread(process.communicate)
        if process.returncode:
            last = " ".join(errors.decode(errors="replace").splitlines()[-_LAST_LINES:])
            raise SourceError(f"the scenes cannot be made, status {process.returncode}: {last}")
        unfinished.replace(film)
    finally:
        await processes.end(process, 0.0)
        unfinished.unlink(missing_ok=True)
    return film
