from pathlib import Path

import cv2
import numpy as np
import pytest

from models.datasets.cityscapes import CATEGORIES, CityscapesDataset
from models.datasets.sample import IGNORE_LABEL, VOID_ID, DatasetError

INSTANCE_IDS = np.array([[7, 7, 26001, 26001], [7, 26002, 26, 26], [0, 4, 23, 23]], np.uint16)


def write(root: Path, instance_ids: np.ndarray = INSTANCE_IDS) -> CityscapesDataset:
    """One frame of Aachen in the official layout."""
    wide = instance_ids.astype(np.int32)
    label_ids = np.where(wide >= 1000, wide // 1000, wide).astype(np.uint8)
    images, labels = root / "leftImg8bit" / "train", root / "gtFine" / "train"
    for folder in (images, labels):
        (folder / "aachen").mkdir(parents=True)
    stem = "aachen_000000_000019"
    cv2.imwrite(str(images / "aachen" / f"{stem}_leftImg8bit.png"), np.zeros((3, 4, 3), np.uint8))
    cv2.imwrite(str(labels / "aachen" / f"{stem}_gtFine_labelIds.png"), label_ids)
    cv2.imwrite(str(labels / "aachen" / f"{stem}_gtFine_instanceIds.png"), instance_ids)
    return CityscapesDataset(images, labels)


def test_label_and_instance_ids_become_train_ids_and_segments(tmp_path: Path) -> None:
    sample = write(tmp_path)[0]
    sample.check_pixels()
    assert sample.file_name == "aachen/aachen_000000_000019_leftImg8bit.png"
    names = {segment.id: (segment.category, segment.is_thing, segment.is_crowd) for segment in sample.segments}
    assert names == {
        7: ("road", False, False),
        23: ("sky", False, False),
        26: ("car", True, True),
        26001: ("car", True, False),
        26002: ("car", True, False),
    }
    assert sample.semantic is not None
    assert sample.panoptic is not None
    assert sample.semantic.tolist() == [[0, 0, 13, 13], [0, 13, 13, 13], [IGNORE_LABEL, IGNORE_LABEL, 10, 10]]
    assert sample.panoptic[2].tolist() == [VOID_ID, VOID_ID, 23, 23]
    assert sample.segments[-2].box == (2.0, 0.0, 4.0, 1.0)


def test_unknown_label_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="label ids up to 33, found 60"):
        write(tmp_path, INSTANCE_IDS * 0 + 60_000)[0]


def test_labels_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"uint16 \(3, 4\), found uint8"):
        write(tmp_path, (INSTANCE_IDS % 200).astype(np.uint8))[0]


def test_missing_labels_and_pictures_are_named(tmp_path: Path) -> None:
    dataset = write(tmp_path)
    next((tmp_path / "gtFine").rglob("*labelIds.png")).unlink()
    with pytest.raises(DatasetError, match=r"labelIds\.png: expected a file"):
        dataset[0]
    with pytest.raises(DatasetError, match="found none"):
        CityscapesDataset(tmp_path / "gtFine", tmp_path)


def test_the_real_frame_agrees_with_its_own_train_ids(perception_data: Path) -> None:
    labels = perception_data / "labels" / "cityscapes" / "mini"
    dataset = CityscapesDataset(perception_data / "images" / "cityscapes" / "mini", labels)
    assert len(dataset) == 1
    sample = dataset[0]
    sample.check_pixels()
    official = cv2.imread(str(next(labels.glob("*labelTrainIds.png"))), cv2.IMREAD_UNCHANGED)
    # The maps of this small copy were scaled down one by one, and differ along some edges.
    assert np.mean(sample.semantic == official) > 0.997
    assert {segment.category for segment in sample.things} == {"person", "car"}
    assert len(CATEGORIES) == 19
