"""The real system with real weights, against what the upstream library makes of the same photos.

Runs in the models environment, which has both the services and ultralytics.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from perception import PerceptionClient, Scene

from services.stack.session import StackOptions, build_models
from tests.support.stack import Stack

pytest.importorskip("torch")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SCORE = 0.3
IOU = 0.9
SHARE = 0.95
"""Share of upstream's boxes above SCORE that ours must match at IOU, with the same class."""

PHOTOS = ("images/street_photos/*", "images/highway/*", "images/coco_val2017_100/*")
COCO_PHOTOS = 12


@pytest.fixture(scope="module")
def photos(perception_data: Path) -> list[Path]:
    street, highway, coco = (sorted(perception_data.glob(pattern)) for pattern in PHOTOS)
    return [*street, *highway, *coco[:COCO_PHOTOS]]


@pytest.fixture(scope="module")
def scenes(
    photos: list[Path], triton_environment: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, Scene]]:
    options = StackOptions("street", "triton", 0)
    build_models(options)
    with (
        Stack(options.repository, "street", "triton", tmp_path_factory.mktemp("stack")) as stack,
        PerceptionClient(stack.address) as client,
    ):
        tasks = ("detection", "instance_segmentation")
        yield {photo: client.perceive(photo, tasks=tasks, score_threshold=0.1) for photo in photos}


def _upstream(weights: Path, task: str, photos: list[Path], monkeypatch: pytest.MonkeyPatch, home: Path) -> list:
    for name, value in (("YOLO_OFFLINE", "1"), ("YOLO_AUTOINSTALL", "0"), ("YOLO_CONFIG_DIR", str(home))):
        monkeypatch.setenv(name, value)
    from ultralytics import YOLO

    # This version of ultralytics wants a number there.
    network = onnx.load(weights)
    next(entry for entry in network.metadata_props if entry.key == "batch").value = "1"
    onnx.save(network, home / weights.name)
    model = YOLO(home / weights.name, task=task)
    return [
        model.predict(photo, conf=SCORE, iou=0.7, imgsz=640, max_det=300, rect=False, device="cpu", verbose=False)[0]
        for photo in photos
    ]


def _iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    corners = np.concatenate(
        [np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])], axis=2
    )
    sides = np.clip(corners[..., 2:] - corners[..., :2], 0, None)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    shared = sides[..., 0] * sides[..., 1]
    return shared / (area[0][:, None] + area[1][None] - shared)


@pytest.mark.parametrize(
    ("task", "upstream_task", "weights"),
    [
        ("detections", "detect", "weights/derived/yolov8n_640_fp32.onnx"),
        ("instances", "segment", "weights/derived/yolov8n-seg_640_fp32.onnx"),
    ],
)
def test_objects_agree_with_the_upstream_library(
    scenes: dict[Path, Scene],
    perception_data: Path,
    task: str,
    upstream_task: str,
    weights: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    upstream = _upstream(perception_data / weights, upstream_task, list(scenes), monkeypatch, tmp_path)
    matched = total = 0
    mask_ious: list[float] = []
    for scene, theirs in zip(scenes.values(), upstream, strict=True):
        ours = getattr(scene, task)
        boxes, classes = theirs.boxes.xyxy.numpy(), theirs.boxes.cls.numpy()
        total += len(boxes)
        if not len(ours):
            continue
        same_class = classes[:, None] == ours.class_ids[None]
        iou = np.where(same_class, _iou(boxes, ours.boxes), 0)
        matched += int((iou.max(axis=1, initial=0) >= IOU).sum())
        if task == "instances" and theirs.masks is not None:
            for row in np.flatnonzero(iou.max(axis=1, initial=0) >= IOU):
                mine = ours.mask(int(iou[row].argmax()), *scene.image_size)
                mask_ious.append(_mask_iou(mine, theirs.masks.xy[row]))
    assert total > 60
    assert matched / total >= SHARE, f"{matched} of {total} boxes"
    if task == "instances":
        assert np.median(mask_ious) > 0.9, np.median(mask_ious)


def _mask_iou(mine: NDArray[np.bool_], polygon: NDArray[np.float32]) -> float:
    import cv2

    theirs = np.zeros(mine.shape, np.uint8)
    cv2.fillPoly(theirs, [np.round(polygon).astype(np.int32)], 1)
    union = np.count_nonzero(mine | (theirs > 0))
    return np.count_nonzero(mine & (theirs > 0)) / max(union, 1)
