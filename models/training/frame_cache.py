"""A data set's frames as memory-mapped arrays, so that rendering or decoding them is paid once and not every epoch."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from models.datasets.sample import Dataset, Sample
from models.training.config import CamVid, Scenes

CACHE_FOLDER = Path(".cache/frames")
RENDERING_WORKERS = 2


@dataclass(frozen=True)
class Frames:
    """All frames of one split.

    Attributes:
        labels: category names; a category's position is its train id.
        things: train ids of the countable categories.
        images: uint8 [N,H,W,3] RGB.
        semantic: uint8 [N,H,W] train ids, 255 = ignore.
        panoptic: uint16 [N,H,W] segment ids, 0 = void; all zero where the data set knows no instances.
        segments: for each frame, by segment id: `category` (train id), `is_crowd` and `attributes`.
    """

    labels: tuple[str, ...]
    things: tuple[int, ...]
    images: NDArray[np.uint8]
    semantic: NDArray[np.uint8]
    panoptic: NDArray[np.uint16]
    segments: tuple[Mapping[int, dict[str, Any]], ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.images.shape[2], self.images.shape[1]


def open_dataset(config: CamVid | Scenes, split: str) -> Dataset:
    """Return the data set that a run names; `split` is "train" or "validation".

    Raises:
        DatasetError: the data set is not there.
    """
    if isinstance(config, CamVid):
        from models.datasets.camvid import CamVidDataset

        data = os.environ.get("PERCEPTION_DATA")
        if data is None:
            raise FileNotFoundError("CamVid is read from $PERCEPTION_DATA, which is not set")
        return CamVidDataset(Path(data), getattr(config, split))
    from models.datasets.scenes import SceneDataset

    return SceneDataset(
        worlds=config.worlds,
        seeds=range(*getattr(config, f"{split}_seeds")),
        frames=config.frames_per_sequence,
        size=(config.width, config.height),
    )


def cached_frames(config: CamVid | Scenes, split: str, folder: Path = CACHE_FOLDER) -> Frames:
    """Return the frames of a split, from `folder` where an earlier run with the same data left them."""
    cache = folder / f"{config.name}-{split}-{_digest(config, split)}"
    if not cache.is_dir():
        _write(open_dataset(config, split), cache)
    return _read(cache)


def _digest(config: CamVid | Scenes, split: str) -> str:
    """Name what the frames depend on: the configuration of this split and the code that makes its frames."""
    other = "validation" if split == "train" else "train"
    described = config.model_dump_json(exclude={f"{other}_seeds", other})
    digest = hashlib.sha256(described.encode())
    source = Path(__file__).parent.parent / "datasets" / "scenes"
    for path in sorted(source.rglob("*.py")) if isinstance(config, Scenes) else ():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _write(dataset: Dataset, cache: Path) -> None:
    unfinished = cache.with_name(f"{cache.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    height, width = dataset[0].image.shape[:2]
    shape = (len(dataset), height, width)
    images = np.lib.format.open_memmap(unfinished / "images.npy", "w+", np.uint8, (*shape, 3))
    semantic = np.lib.format.open_memmap(unfinished / "semantic.npy", "w+", np.uint8, shape)
    panoptic = np.lib.format.open_memmap(unfinished / "panoptic.npy", "w+", np.uint16, shape)
    train_ids = {category.name: index for index, category in enumerate(dataset.categories)}
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=RENDERING_WORKERS, collate_fn=_as_it_is)
    segments = []
    with Progress() as progress:
        for index, sample in enumerate(progress.track(loader, len(dataset), description=f"frames of {dataset.name}")):
            images[index] = sample.image
            semantic[index] = sample.semantic
            panoptic[index] = 0 if sample.panoptic is None else sample.panoptic
            segments.append(
                {
                    segment.id: {
                        "category": train_ids[segment.category],
                        "is_crowd": segment.is_crowd,
                        "attributes": dict(segment.attributes),
                    }
                    for segment in sample.segments
                }
            )
    for array in (images, semantic, panoptic):
        array.flush()
    described = {
        "labels": [category.name for category in dataset.categories],
        "things": [index for index, category in enumerate(dataset.categories) if category.is_thing],
        "segments": segments,
    }
    (unfinished / "frames.json").write_text(json.dumps(described))
    unfinished.rename(cache)


def _read(cache: Path) -> Frames:
    described = json.loads((cache / "frames.json").read_text())
    return Frames(
        labels=tuple(described["labels"]),
        things=tuple(described["things"]),
        images=np.load(cache / "images.npy", mmap_mode="r"),
        semantic=np.load(cache / "semantic.npy", mmap_mode="r"),
        panoptic=np.load(cache / "panoptic.npy", mmap_mode="r"),
        segments=tuple(
            MappingProxyType({int(identifier): segment for identifier, segment in frame.items()})
            for frame in described["segments"]
        ),
    )


def _as_it_is(sample: Sample) -> Sample:
    return sample
