import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models.datasets.coco import CocoInstancesDataset, CocoPanopticDataset
from models.datasets.sample import IGNORE_LABEL, VOID_ID, DatasetError, mask_box

# pycocotools 2.0.11 hands NumPy 2 an array protocol that it calls old.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 6, 8
CATEGORIES = [
    {"id": 3, "name": "car", "isthing": 1, "color": [0, 0, 142]},
    {"id": 149, "name": "road", "isthing": 0, "color": [128, 64, 128]},
]
IMAGE = {"id": 5, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}
ROAD_ID, CAR_ID = 70_000, 300
PANOPTIC = {
    "images": [IMAGE, IMAGE | {"id": 6, "file_name": "absent.png"}],
    "categories": CATEGORIES,
    "annotations": [
        {
            "image_id": 5,
            "file_name": "a.png",
            "segments_info": [
                {"id": ROAD_ID, "category_id": 149, "bbox": [0, 3, 8, 3], "area": 24, "iscrowd": 0},
                {"id": CAR_ID, "category_id": 3, "bbox": [2, 1, 3, 2], "area": 6, "iscrowd": 1},
            ],
        }
    ],
}
POLYGON = [2.0, 1.0, 5.0, 1.0, 5.0, 3.0, 2.0, 3.0]
CAR = {"id": 0, "image_id": 5, "category_id": 3, "bbox": [2, 1, 3, 2], "area": 6, "segmentation": [POLYGON]}
INSTANCES = {"images": [IMAGE], "categories": CATEGORIES[:1], "annotations": [CAR, CAR | {"id": 1}]}


def write(folder: Path, content: Any, ids: np.ndarray | None = None) -> Path:
    """A label file, one picture ``images/a.png`` and its panoptic PNG; returns the label file."""
    (folder / "images").mkdir()
    (folder / "panoptic").mkdir()
    cv2.imwrite(str(folder / "images" / "a.png"), np.full((HEIGHT, WIDTH, 3), (30, 20, 10), np.uint8))
    if ids is None:
        ids = np.zeros((HEIGHT, WIDTH), np.int32)
        ids[3:] = ROAD_ID
        ids[1:3, 2:5] = CAR_ID
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    cv2.imwrite(str(folder / "panoptic" / "a.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    path = folder / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def open_panoptic(folder: Path, content: Any, ids: np.ndarray | None = None) -> CocoPanopticDataset:
    return CocoPanopticDataset(write(folder, content, ids), folder / "panoptic", folder / "images")


def open_instances(folder: Path, content: Any) -> CocoInstancesDataset:
    return CocoInstancesDataset(write(folder, content), folder / "images")


def test_panoptic_labels_are_read_for_the_pictures_that_exist(tmp_path: Path) -> None:
    dataset = open_panoptic(tmp_path, PANOPTIC)
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample.image[0, 0].tolist() == [10, 20, 30]
    road, car = sample.segments
    assert (road.category, road.is_thing, road.box, road.is_crowd) == ("road", False, (0, 3, 8, 6), False)
    assert (car.category, car.is_thing, car.box, car.is_crowd) == ("car", True, (2, 1, 5, 3), True)
    assert sample.panoptic is not None
    assert sample.semantic is not None
    assert sample.panoptic[4, 0] == ROAD_ID
    assert (sample.semantic[1, 2], sample.semantic[4, 0], sample.semantic[0, 0]) == (0, 1, IGNORE_LABEL)


def test_instances_may_overlap_and_their_ids_may_be_zero(tmp_path: Path) -> None:
    sample = open_instances(tmp_path, INSTANCES)[0]
    assert [segment.id for segment in sample.segments] == [1, 2]
    for segment in sample.segments:
        assert mask_box(sample.mask(segment)) == (2, 1, 5, 3)
    assert sample.panoptic is None


def test_run_lengths_are_read_uncompressed_too(tmp_path: Path) -> None:
    runs = {"size": [HEIGHT, WIDTH], "counts": [0, 2, HEIGHT * WIDTH - 2]}
    sample = open_instances(tmp_path, INSTANCES | {"annotations": [CAR | {"segmentation": runs}]})[0]
    assert np.argwhere(sample.mask(sample.segments[0])).tolist() == [[0, 0], [1, 0]]


def test_an_image_without_instances_has_no_segments(tmp_path: Path) -> None:
    assert open_instances(tmp_path, INSTANCES | {"annotations": []})[0].segments == ()


def changed(content: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    content = copy.deepcopy(content)
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found an empty file"),
        ("{", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("[1]", "the file: .*, found"),
        ({"images": []}, "categories: Field required"),
        (changed(PANOPTIC, lambda c: c["images"][0].update(width="wide")), r"images\.0\.width: .*found 'wide'"),
        (changed(PANOPTIC, lambda c: c["images"][0].update(height=-6)), r"images\.0\.height: .*found -6"),
        (changed(PANOPTIC, lambda c: c["images"][1].update(id=5)), "unique image ids"),
        (changed(PANOPTIC, lambda c: c["images"][0].update(file_name="../labels.json")), "file names inside"),
        (changed(PANOPTIC, lambda c: c["images"][0].update(file_name="/etc/passwd")), "file names inside"),
        (changed(PANOPTIC, lambda c: c["images"][0].update(file_name="b.png")), "found none of the 2 listed"),
        (changed(PANOPTIC, lambda c: c["images"][0].update(width=100_000)), "100000 x 6 pixels as listed, found 8 x 6"),
        (changed(PANOPTIC, lambda c: c["categories"].append(c["categories"][0])), "unique category ids"),
        (changed(PANOPTIC, lambda c: c["annotations"].clear()), "an annotation for every image"),
        (changed(PANOPTIC, lambda c: c["annotations"][0].update(file_name="../x.png")), "file names inside"),
        (changed(PANOPTIC, lambda c: c["annotations"][0].update(file_name="no.png")), "expected a file, found No such"),
        (changed(PANOPTIC, lambda c: c["annotations"][0]["segments_info"].pop()), r"only in the map: \[300\]"),
        (changed(PANOPTIC, lambda c: c["annotations"][0]["segments_info"][0].update(category_id=1)), r"also \[1\]"),
        (changed(PANOPTIC, lambda c: c["annotations"][0]["segments_info"][0].update(id=VOID_ID)), "greater than 0"),
        (changed(PANOPTIC, lambda c: c["annotations"][0]["segments_info"][0].update(bbox=[0, 0, -1, 2])), "bbox"),
        (changed(PANOPTIC, lambda c: c["annotations"][0]["segments_info"][0].update(area=float("nan"))), "area"),
    ],
)
def test_broken_panoptic_files_raise_readable_errors(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_panoptic(tmp_path, content)[0]


def test_a_panoptic_map_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"shape \(6, 8\), found \(6, 9\)"):
        open_panoptic(tmp_path, PANOPTIC, np.zeros((HEIGHT, WIDTH + 1), np.int32))[0]


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    dataset = open_panoptic(tmp_path, PANOPTIC)
    (tmp_path / "images" / "a.png").write_bytes(b"<html>not a picture</html>")
    with pytest.raises(DatasetError, match=r"a\.png: expected a picture"):
        dataset[0]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 1]], "segmentation"),
        ([[0, 0, 1, 1, 2, 2, 3]], "odd number"),
        ([[0, 0, 1, 1, float("inf"), 2]], "segmentation"),
        ("mask.png", "segmentation"),
        ({"size": [60_000, 60_000], "counts": "0"}, r"size \(6, 8\), found \(60000, 60000\)"),
        ({"size": [HEIGHT, WIDTH], "counts": "zzzzzz"}, "that fill 8 x 6 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [0, 5000]}, "that fill 8 x 6 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [4, -2]}, "segmentation"),
    ],
)
def test_broken_masks_raise_readable_errors(tmp_path: Path, segmentation: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_instances(tmp_path, INSTANCES | {"annotations": [CAR | {"segmentation": segmentation}]})[0]


def test_the_real_panoptic_validation_pictures_are_read(perception_data: Path) -> None:
    labels = perception_data / "labels" / "coco_val2017_100"
    images = perception_data / "images" / "coco_val2017_100"
    dataset = CocoPanopticDataset(labels / "panoptic_val2017.json", labels / "panoptic_png", images)
    assert len(dataset) == len(list(images.glob("*.jpg")))
    assert len(dataset.categories) == 133
    for index in range(0, len(dataset), 6):
        sample = dataset[index]
        assert all(np.count_nonzero(sample.mask(segment)) == segment.area for segment in sample.segments)
        assert all(mask_box(sample.mask(segment)) == segment.box for segment in sample.segments)


def test_the_real_instances_agree_with_the_real_panoptic_labels(perception_data: Path) -> None:
    labels = perception_data / "labels" / "coco_val2017_100"
    images = perception_data / "images" / "coco_val2017_100"
    panoptic = CocoPanopticDataset(labels / "panoptic_val2017.json", labels / "panoptic_png", images)
    instances = CocoInstancesDataset(labels / "instances_coco_from_panoptic.json", images)
    assert len(instances) == len(panoptic)
    for index in range(0, len(instances), 6):
        ours, theirs = instances[index], panoptic[index]
        assert ours.file_name == theirs.file_name
        for segment, thing in zip(ours.segments, theirs.things, strict=True):
            assert (segment.category, segment.box, segment.is_crowd) == (thing.category, thing.box, thing.is_crowd)
            np.testing.assert_array_equal(ours.mask(segment), theirs.mask(thing))


def test_the_examples_of_the_panoptic_api_are_read(perception_data: Path) -> None:
    labels, images = perception_data / "labels" / "coco_panoptic", perception_data / "images" / "coco_panoptic"
    panoptic = CocoPanopticDataset(labels / "panoptic_examples.json", labels / "panoptic_examples", images)
    detection = CocoInstancesDataset(labels / "panoptic_coco_detection_format.json", images)
    assert len(panoptic) == len(detection) == 2
    assert [len(detection[index].segments) for index in range(2)] == [
        len(panoptic[index].segments) for index in range(2)
    ]
