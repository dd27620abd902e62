"""The pictures that show what a profile does."""

from __future__ import annotations

import os
from pathlib import Path

from models.catalog.schema import CatalogError, Profile

SEEDS = range(9001, 9004)
"""Scenes that no model was trained or chosen on."""

_WORLDS = ("street", "line")
_SIZE = (640, 480)


def sample_sources(profile: Profile, folder: Path) -> list[Path]:
    """Return pictures, folders of pictures and videos to perceive with a profile.

    They are those that the profile names, below PERCEPTION_DATA; for a profile that names none, procedural scenes are
    made and written into `folder` with their truth.

    Raises:
        CatalogError: PERCEPTION_DATA is not set, or holds no such file.
    """
    if not profile.samples:
        return _made_scenes(folder)
    data = os.environ.get("PERCEPTION_DATA")
    if not data:
        raise CatalogError(f"the samples of profile {profile.name} lie in PERCEPTION_DATA, which is not set")
    paths = [Path(data) / sample for sample in profile.samples]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise CatalogError(f"{profile.name}: samples: no such file or folder: {', '.join(missing)}")
    return paths


def _made_scenes(folder: Path) -> list[Path]:
    from models.datasets.scenes import SceneSequence
    from models.datasets.scenes.export import export_coco

    sequences = [SceneSequence(world, seed, 1, _SIZE) for world in _WORLDS for seed in SEEDS]
    written = list(export_coco(sequences, folder))
    return sorted({folder / "images" / Path(sample.file_name).parent for sample in written})
