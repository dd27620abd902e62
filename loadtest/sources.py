"""The frames that are sent: pictures, a film, or the project's procedural scenes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import cv2

MOST_FRAMES = 250
"""Of a source; they are sent again and again. Every client process holds them all in memory."""

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_JPEG_QUALITY = 85
_SCENES = {"seed": "0", "length": "25", "width": "640", "height": "480"}
_LAST_LINES = 3
_PROJECT = Path(__file__).resolve().parents[1]


class SourceError(ValueError):
    """A source that no frames can be had from; the message says why."""


@dataclass(frozen=True)
class Frames:
    """Encoded pictures to send. source: where they are from, as it was asked for."""

    source: str
    paths: tuple[Path, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first one in pixels. Raises `SourceError` where it is no picture."""
        picture = cv2.imread(str(self.paths[0]))
        if picture is None:
            raise SourceError(f"{self.paths[0]}: cannot be read as a picture")
        height, width = picture.shape[:2]
        return height, width

    @property
    def mean_bytes(self) -> float:
        """Mean size of a frame as it is sent."""
        return sum(path.stat().st_size for path in self.paths) / len(self.paths)


@contextmanager
def frames_of(source: str) -> Iterator[Frames]:
    """The first `MOST_FRAMES` frames of a source.

    source: a picture, a folder of pictures, a film, or scenes such as `scenes:street?seed=1&length=50`, with `width`
    and `height` too, which are made at the first use and kept. Raises `SourceError` where there are none.
    """
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        if source.startswith("scenes:"):
            paths = _scenes(source)
        elif Path(source).is_dir():
            paths = _pictures_in(Path(source))
        elif Path(source).suffix.lower() in IMAGE_SUFFIXES and Path(source).is_file():
            paths = [Path(source).resolve()]
        else:
            paths = list(_film_frames(Path(source), Path(folder)))
        yield Frames(source, tuple(paths[:MOST_FRAMES]))


def _pictures_in(folder: Path) -> list[Path]:
    pictures = sorted(path.resolve() for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not pictures:
        raise SourceError(f"{folder}: no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}) in this folder")
    return pictures


def _film_frames(film: Path, folder: Path) -> Iterator[Path]:
    if not film.is_file():
        raise SourceError(f"{film}: no such file or folder")
    capture = cv2.VideoCapture(str(film))
    try:
        for number in range(MOST_FRAMES):
            read, picture = capture.read()
            if not read and number == 0:
                raise SourceError(f"{film}: cannot be read as a picture or a film")
            if not read:
                return
            path = folder / f"{number:06d}.jpg"
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            yield path
    finally:
        capture.release()


def _scenes(source: str) -> list[Path]:
    """The frames of procedural scenes; made where they are not kept yet, some ten a second."""
    parts = urlsplit(source)
    options = _SCENES | dict(parse_qsl(parts.query, keep_blank_values=True))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perception" / "scenes"
    name = "_".join([parts.path, *options.values()])
    kept = cache / version("perception-services") / f"{name}_frames"
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        # As a process of its own: models/ is no part of the load test.
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            command = [sys.executable, "-m", "models.datasets.cli", "scenes", folder, f"--world={parts.path}"]
            command += [f"--{name}={value}" for name, value in options.items()]
            plain = os.environ | {"TYPER_USE_RICH": "0"}  # its mistakes are quoted, without a frame around them
            made = subprocess.run(command, cwd=_PROJECT, env=plain, check=False, capture_output=True, text=True)
            if made.returncode:
                last = " ".join(made.stderr.splitlines()[-_LAST_LINES:])
                raise SourceError(f"{source}: the scenes cannot be made: {last}")
            # Another process may have made the same meanwhile.
            if not kept.is_dir():
                (Path(folder) / "images").replace(kept)
    return list(islice(sorted(kept.rglob("*.jpg")), MOST_FRAMES))
