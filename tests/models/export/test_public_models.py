"""The catalogue's ONNX entries, built from the real weights and held against the networks they came from."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.catalog.schema import YoloHead, load_entry
from models.export.build import build_model
from models.export.weights import resolve_weights
from tests.models.export.support import iou, letterbox, read_rgb, reference_mask, reference_yolo, run

SCORE = 0.25


@pytest.fixture(scope="session")
def street_photo(perception_data: Path) -> NDArray[np.uint8]:
    return letterbox(read_rgb(perception_data / "images" / "street_photos" / "crowded_street.jpeg"), 640, 640)


def built(name: str) -> tuple[onnx.ModelProto, Path]:
    entry = load_entry(name)
    weights = resolve_weights(entry.source)
    return build_model(entry, weights), weights


def planes(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (picture.transpose(2, 0, 1)[None] / 255).astype(np.float32)


@pytest.mark.parametrize("name", ["yolov8n_coco", "yolov8n_seg_coco"])
def test_yolo_finds_what_its_raw_predictions_say(name: str, street_photo: NDArray[np.uint8]) -> None:
    model, weights = built(name)
    outputs = run(model, image=street_photo[None])
    network = run(weights, images=planes(street_photo))
    head = load_entry(name).head
    assert isinstance(head, YoloHead)
    confident = head.model_copy(update={"score_threshold": SCORE})
    expected = reference_yolo(network["output0"][0][: 4 + 80], confident, 80, 640, 640)
    count = int((outputs["detection_scores"][0] > SCORE).sum())
    assert len(expected.scores) > 15
    # Weights rounded to fp16 may lift a box over the threshold, or push it under.
    assert abs(count - len(expected.scores)) <= 1
    overlap = iou(expected.boxes, outputs["detection_boxes"][0].astype(np.float64))
    overlap[expected.classes[:, None] != outputs["detection_classes"][0]] = 0
    overlap[np.abs(expected.scores[:, None] - outputs["detection_scores"][0]) > 0.01] = 0
    matched = overlap.argmax(axis=1)
    certain = expected.scores > SCORE + 0.01
    assert (overlap.max(axis=1)[certain] > 0.97).all()
    if "detection_masks" in outputs:
        agreements = []
        for row in np.flatnonzero(certain):
            mask = outputs["detection_masks"][0, matched[row]] > 127
            coefficients = network["output0"][0][-32:, expected.anchors[row]]
            probability = reference_mask(coefficients, network["output1"][0], expected.boxes[row], mask.shape[0], 4.0)
            agreements.append((mask == (probability > 0.5)).mean())
        assert min(agreements) > 0.97


@pytest.mark.parametrize("name", ["yolov8n_coco", "yolov8n_seg_coco", "espnet_camvid", "mobilenet_v2_imagenet"])
def test_pictures_of_a_batch_do_not_touch_each_other(name: str, perception_data: Path) -> None:
    entry = load_entry(name)
    model, _ = built(name)
    photo = read_rgb(perception_data / "images" / "street_photos" / "car.jpeg")
    picture = letterbox(photo, entry.image.width, entry.image.height)
    batch = np.stack([picture, np.zeros_like(picture), picture[:, ::-1]])
    together = run(model, image=batch)
    for index, image in enumerate(batch):
        for output, alone in run(model, image=image[None]).items():
            difference = np.abs(together[output][index].astype(np.float64) - alone[0])
            # Engines pick other kernels for other batches; a level of a mask or map may round the other way.
            assert np.quantile(difference, 0.999) <= (1 if alone.dtype == np.uint8 else 1e-2), output


def test_a_grey_picture_holds_nothing(perception_data: Path) -> None:
    model, _ = built("yolov8n_coco")
    outputs = run(model, image=np.full((1, 640, 640, 3), 114, np.uint8))
    assert (outputs["detection_scores"] < 0.2).all()


@pytest.mark.parametrize(("photo", "label"), [("hot_dog", "hotdog"), ("parrot", "macaw")])
def test_mobilenet_names_what_is_in_a_photo(perception_data: Path, photo: str, label: str) -> None:
    model, _ = built("mobilenet_v2_imagenet")
    picture = read_rgb(perception_data / "images" / "classify" / f"{photo}.jpg")
    side = min(picture.shape[:2])
    top, left = ((size - side) // 2 for size in picture.shape[:2])
    crop = picture[top : top + side, left : left + side]
    probabilities = run(model, image=letterbox(crop, 224, 224)[None])["probabilities"][0]
    assert load_entry("mobilenet_v2_imagenet").labels[int(probabilities.argmax())] == label
    assert probabilities.max() > 0.8
    assert probabilities.sum() == pytest.approx(1, abs=1e-4)


def test_espnet_names_the_surfaces_of_a_street(perception_data: Path) -> None:
    model, weights = built("espnet_camvid")
    frames = sorted((perception_data / "images" / "camvid" / "val_0016E5_15hz").glob("*.jpg"))[::40]
    truth = perception_data / "labels" / "camvid" / "val_0016E5_15hz"
    right, total = 0, 0
    for frame in frames:
        picture = read_rgb(frame)
        outputs = run(model, image=picture[None])
        logits = run(weights, image=planes(picture))["logits"]
        assert (outputs["class_map"] == logits.argmax(axis=1)).mean() > 0.995
        expected = read_rgb(truth / f"{frame.stem}.png")[..., 0]
        labelled = expected != 11
        right += int((outputs["class_map"][0] == expected)[labelled].sum())
        total += int(labelled.sum())
    assert len(frames) == 3
    assert right / total > 0.9
