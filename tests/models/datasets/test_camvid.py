import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models.datasets.camvid import CamVidDataset
from models.datasets.sample import IGNORE_LABEL, DatasetError

CLASSES: list[dict[str, Any]] = [
    {"id": 0, "name": "Sky", "rgb": [128, 128, 128], "ignore": False, "isthing": False},
    {"id": 1, "name": "Car", "rgb": [64, 0, 128], "ignore": False, "isthing": True},
    {"id": 2, "name": "Unlabelled", "rgb": [0, 0, 0], "ignore": True, "isthing": False},
]
LABELS = np.array([[0, 1], [2, 2]], np.uint8)


def write(root: Path, labels: np.ndarray = LABELS, classes: Any = CLASSES) -> CamVidDataset:
    for folder in ("images", "labels"):
        (root / folder / "camvid" / "train").mkdir(parents=True)
    cv2.imwrite(str(root / "images" / "camvid" / "train" / "0016E5_07959.jpg"), np.zeros((2, 2, 3), np.uint8))
    cv2.imwrite(str(root / "labels" / "camvid" / "train" / "0016E5_07959.png"), labels)
    (root / "labels" / "camvid" / "classes.json").write_text(json.dumps({"classes": classes}))
    return CamVidDataset(root, "train")


def test_the_ignored_class_becomes_255(tmp_path: Path) -> None:
    dataset = write(tmp_path)
    assert [(category.name, category.is_thing) for category in dataset.categories] == [("Sky", False), ("Car", True)]
    sample = dataset[0]
    assert sample.semantic is not None
    assert sample.semantic.tolist() == [[0, 1], [IGNORE_LABEL, IGNORE_LABEL]]
    assert (sample.video, sample.frame_index, sample.panoptic) == ("0016E5", 7959, None)


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (np.full((2, 2), 9, np.uint8), CLASSES, r"ids of classes.json, found \[9\]"),
        (np.zeros((3, 2), np.uint8), CLASSES, r"uint8 \(2, 2\), found uint8 \(3, 2\)"),
        (np.zeros((2, 2, 3), np.uint8), CLASSES, r"found uint8 \(2, 2, 3\)"),
        (LABELS, CLASSES[1:], "without gaps"),
        (LABELS, [CLASSES[0] | {"rgb": [0, 0]}], r"classes\.0\.rgb"),
        (LABELS, {}, "classes: "),
    ],
)
def test_broken_labels_raise_readable_errors(tmp_path: Path, labels: np.ndarray, classes: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        write(tmp_path, labels, classes)[0]


def test_an_empty_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="split 'test': expected pictures in"):
        CamVidDataset(tmp_path, "test")


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val_0016E5_15hz", 101)])
def test_the_real_splits_are_read(perception_data: Path, split: str, count: int) -> None:
    dataset = CamVidDataset(perception_data, split)
    assert len(dataset) == count
    assert len(dataset.categories) == 11
    for index in range(0, count, 20):
        sample = dataset[index]
        assert sample.semantic is not None
        assert set(np.unique(sample.semantic).tolist()) <= {*range(11), IGNORE_LABEL}
        assert np.mean(sample.semantic == 3) > 0.05  # every street picture shows some road
