"""Procedural sequences and the data set made of many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.datasets.sample import IGNORE_LABEL, VOID_ID, Category, Sample, Segment, mask_box
from models.datasets.scenes.canvas import FIRST_THING_ID, thing_id
from models.datasets.scenes.categories import CATEGORIES, TRAIN_IDS
from models.datasets.scenes.line import LineWorld
from models.datasets.scenes.street import StreetWorld
from models.datasets.scenes.world import FRAMES_PER_SECOND, SMALLEST_LABELLED, Frame, Thing, World, size_factor

ID_COUNT = 1 << 16
"""Segment ids are 16 bits wide while painting."""

WorldName = Literal["street", "line"]

_WORLDS: dict[str, type[StreetWorld] | type[LineWorld]] = {"street": StreetWorld, "line": LineWorld}


class SceneSequence(Sequence[Sample]):
    """A short film with its truth: frame ``i`` of world, seed, length and size (width, height) is always the same.

    Frames are made independently of each other, in any order and in any process.
    """

    def __init__(self, world: WorldName, seed: int, length: int, size: tuple[int, int] = (640, 480)) -> None:
        if world not in _WORLDS:
            raise ValueError(f"world: expected one of {sorted(_WORLDS)}, found {world!r}")
        if seed < 0 or length < 1 or min(size) < 64:
            raise ValueError(
                f"expected seed >= 0, length >= 1 and sides of at least 64 pixels, "
                f"found seed {seed}, length {length}, size {size}"
            )
        self.world, self.seed, self.length, self.size = world, seed, length, size
        self.name = f"{world}-{seed:06d}"
        self._entropy = (sorted(_WORLDS).index(world), seed)
        self._world: World = _WORLDS[world](np.random.default_rng(self._entropy), length, size)

    @property
    def categories(self) -> tuple[Category, ...]:
        """The demo categories of both worlds."""
        return CATEGORIES

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        """Frame ``index``; its ``image_id`` is index + 1."""
        if not -self.length <= index < self.length:
            raise IndexError(f"frame: expected an index below {self.length}, found {index}")
        index %= self.length
        frame = self._world.render(index, np.random.default_rng((*self._entropy, index)))
        segments, panoptic, semantic = _truth(frame, SMALLEST_LABELLED * size_factor(self.size))
        return Sample(
            image=frame.image,
            file_name=f"{self.name}/{index:06d}.jpg",
            image_id=index + 1,
            panoptic=panoptic,
            segments=segments,
            semantic=semantic,
            video=self.name,
            frame_index=index,
            seconds=index / FRAMES_PER_SECOND,
        )


@lru_cache(maxsize=2)
def _sequence(world: WorldName, seed: int, length: int, size: tuple[int, int]) -> SceneSequence:
    """The last sequences laid out: reading samples in order lays out each scene once."""
    return SceneSequence(world, seed, length, size)


def _truth(frame: Frame, smallest: float) -> tuple[tuple[Segment, ...], NDArray[np.int32], NDArray[np.uint8]]:
    """Segments, panoptic map and semantic map; what is left of a thing below ``smallest`` pixels becomes void."""
    things = {thing_id(thing.track_id): thing for thing in frame.things}
    areas = cv2.calcHist([frame.ids], [0], None, [ID_COUNT], [0, ID_COUNT]).ravel()
    kept = [int(i) for i in np.flatnonzero(areas) if i < FIRST_THING_ID or areas[i] >= smallest]
    train_ids = np.full(ID_COUNT, IGNORE_LABEL, np.uint8)
    kept_ids = np.full(ID_COUNT, VOID_ID, np.uint16)
    for segment_id in kept:
        train_ids[segment_id] = TRAIN_IDS[things[segment_id].category] if segment_id in things else segment_id - 1
        kept_ids[segment_id] = segment_id
    segments = tuple(_segment(frame.ids, i, int(areas[i]), things.get(i)) for i in kept)
    panoptic = cv2.LUT(frame.ids, kept_ids).astype(np.int32)
    return segments, panoptic, np.asarray(cv2.LUT(frame.ids, train_ids), np.uint8)


def _segment(ids: NDArray[np.uint16], segment_id: int, area: int, thing: Thing | None) -> Segment:
    box = mask_box(ids == segment_id)
    if thing is None:
        return Segment(segment_id, CATEGORIES[segment_id - 1].name, False, box, area)
    return Segment(segment_id, thing.category, True, box, area, thing.track_id, thing.attributes)


class SceneDataset:
    """Many short sequences of both worlds, for training and validation.

    For every seed there is one sequence of each world, of which ``frames`` frames, ``stride`` apart, are samples. They
    are ordered by seed, then world, then frame, so that reading in order lays out each scene once.
    """

    def __init__(
        self,
        seeds: range,
        worlds: tuple[WorldName, ...] = ("street", "line"),
        frames: int = 1,
        size: tuple[int, int] = (640, 480),
        stride: int = 12,
    ) -> None:
        if frames < 1 or stride < 1 or not worlds or len(seeds) == 0:
            raise ValueError(
                f"expected seeds, worlds, frames >= 1 and stride >= 1, found seeds {seeds}, worlds {worlds}, "
                f"frames {frames}, stride {stride}"
            )
        self.seeds, self.worlds, self.frames, self.size, self.stride = seeds, worlds, frames, size, stride

    @property
    def name(self) -> str:
        """``scenes``."""
        return "scenes"

    @property
    def categories(self) -> tuple[Category, ...]:
        """The demo categories: a category's position is its semantic train id and its class index."""
        return CATEGORIES

    def __len__(self) -> int:
        return len(self.seeds) * len(self.worlds) * self.frames

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample: expected an index from 0 to {len(self) - 1}, found {index}")
        scene, frame = divmod(index, self.frames)
        seed, world = divmod(scene, len(self.worlds))
        length = (self.frames - 1) * self.stride + 1
        sample = _sequence(self.worlds[world], self.seeds[seed], length, self.size)[frame * self.stride]
        return replace(sample, image_id=index + 1)
