"""The frames that are sent: 1080p JPEGs that the models of a profile find something in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from loadtest.sources import Frames, frames_of
from services.stack.session import samples

HEIGHT, WIDTH = 1080, 1920
_QUALITY = 90
_FROM_EACH_WORLD = 6


@contextmanager
def frames_for(profile: str) -> Iterator[Frames]:
    """Frames of 1920 x 1080 for a profile, as files that live as long as the block.

    Procedural scenes of that size for the demo's models, in turn of a street and a line; else the profile's sample
    pictures, scaled until they fill the frame.
    """
    with ExitStack() as stack:
        if profile.startswith("demo"):
            options = f"seed=9001&length={_FROM_EACH_WORLD}&width={WIDTH}&height={HEIGHT}"
            worlds = [stack.enter_context(frames_of(f"scenes:{world}?{options}")) for world in ("street", "line")]
            paths = tuple(chain.from_iterable(zip(*(world.paths for world in worlds), strict=True)))
            yield Frames("scenes of a street and a line, 1920 x 1080", paths)
            return
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
        pictures = chain.from_iterable(_pictures(path) for path in samples(profile, folder / "samples"))
        paths = tuple(_filling(path, folder) for path in islice(pictures, 2 * _FROM_EACH_WORLD))
        yield Frames(f"samples of {profile}, scaled to fill 1920 x 1080", paths)


@contextmanager
def scaled(frames: Frames, height: int, width: int) -> Iterator[Frames]:
    """The same frames in another size."""
    with TemporaryDirectory(prefix="bench-") as folder:
        paths: list[Path] = []
        for path in frames.paths:
            picture = cv2.resize(_read(path), (width, height), interpolation=cv2.INTER_AREA)
            paths.append(_write(picture, Path(folder) / f"{len(paths)}.jpg"))
        yield Frames(f"{width} x {height}", tuple(paths))


def _pictures(path: Path) -> Iterator[Path]:
    with frames_of(str(path)) as found:
        yield from found.paths


def _filling(path: Path, folder: Path) -> Path:
    """A picture that is scaled until it fills the frame, its edges cut off."""
    picture = _read(path)
    scale = max(HEIGHT / picture.shape[0], WIDTH / picture.shape[1])
    size = (max(WIDTH, round(picture.shape[1] * scale)), max(HEIGHT, round(picture.shape[0] * scale)))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    top, left = (picture.shape[0] - HEIGHT) // 2, (picture.shape[1] - WIDTH) // 2
    return _write(picture[top : top + HEIGHT, left : left + WIDTH], folder / f"{path.stem}.jpg")


def _read(path: Path) -> cv2.typing.MatLike:
    picture = cv2.imread(str(path))
    if picture is None:
        raise ValueError(f"{path}: no picture")
    return picture


def _write(picture: cv2.typing.MatLike, path: Path) -> Path:
    cv2.imwrite(str(path), np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return path
