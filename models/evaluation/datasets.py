"""The data sets that plans and catalogue entries name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from models.datasets.camvid import CamVidDataset
from models.datasets.coco import CocoInstancesDataset, CocoPanopticDataset
from models.datasets.sample import Dataset, DatasetError
from models.datasets.scenes import SceneDataset

SCENE_TEST_SEEDS = range(200_000, 200_020)
"""Scenes of the test split; training and validation stay below."""

SCENE_TEST_SEQUENCE_SEEDS = range(200_100, 200_102)
"""Scenes of which whole sequences are tested."""

_COCO = "coco_val2017_100"


def open_dataset(name: str) -> Dataset:
    """Return a data set by name.

    `scenes_test`: unseen procedural scenes, two frames of each, of both worlds. `scenes_test_sequences`: three seconds
    of other unseen scenes, two of each world, at 12.5 frames a second. `coco_val2017_60_instances`,
    `coco_val2017_60_panoptic`: the sixty photos of COCO val2017 in $PERCEPTION_DATA; detection truth is made from the
    panoptic labels. `camvid_val`: CamVid's sequence 0016E5 in the same place.

    Raises:
        DatasetError: the name is unknown, or the data are not there.
    """
    if name not in _DATASETS:
        raise DatasetError(f"data set: expected one of {', '.join(_DATASETS)}, found {name!r}")
    return _DATASETS[name]()


def _scenes() -> Dataset:
    return SceneDataset(SCENE_TEST_SEEDS, frames=2)


def _scene_sequences() -> Dataset:
    return SceneDataset(SCENE_TEST_SEQUENCE_SEEDS, frames=40, stride=2)


def _coco_instances() -> Dataset:
    labels = _data() / "labels" / _COCO
    return CocoInstancesDataset(labels / "instances_coco_from_panoptic.json", _data() / "images" / _COCO)


def _coco_panoptic() -> Dataset:
    labels = _data() / "labels" / _COCO
    return CocoPanopticDataset(labels / "panoptic_val2017.json", labels / "panoptic_png", _data() / "images" / _COCO)


def _camvid() -> Dataset:
    return CamVidDataset(_data(), "val_0016E5_15hz")


def _data() -> Path:
    folder = os.environ.get("PERCEPTION_DATA")
    if not folder:
        raise DatasetError("expected the folder of real pictures and labels in $PERCEPTION_DATA, found it unset")
    return Path(folder)


_DATASETS: dict[str, Callable[[], Dataset]] = {
    "scenes_test": _scenes,
    "scenes_test_sequences": _scene_sequences,
    "coco_val2017_60_instances": _coco_instances,
    "coco_val2017_60_panoptic": _coco_panoptic,
    "camvid_val": _camvid,
}
