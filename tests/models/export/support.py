"""What the tests of the exporters share: entries, sessions, pictures, and a plain reference of YOLO's decoding."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from models.catalog.schema import Entry, YoloHead

FloatArray = NDArray[np.float64]


def entry(**fields: Any) -> Entry:
    """An entry for a test; a detector of two classes on 64x64 unless told otherwise."""
    defaults: dict[str, Any] = {
        "name": "under_test",
        "description": "A model under test",
        "task": "detection",
        "adapter": "onnx",
        "image": {"resize": "letterbox", "width": 64, "height": 64},
        "labels": ("cat", "dog"),
        "head": {"kind": "yolo", "layout": "yolov8"},
        "licence": "none",
        "source": {"file": "model.onnx"},
    }
    return Entry.model_validate(defaults | fields)


def run(model: onnx.ModelProto | Path, **inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """All outputs of a graph by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 [H,W,3]."""
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return np.ascontiguousarray(picture[..., ::-1])


def made_picture(height: int, width: int) -> NDArray[np.uint8]:
    """A picture of shapes on a gradient, for where there is no photo."""
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 256], axis=-1).astype(np.uint8)
    cv2.circle(picture, (width // 3, height // 2), height // 5, (220, 40, 40), -1)
    cv2.rectangle(picture, (width // 2, height // 4), (width * 9 // 10, height * 3 // 4), (30, 60, 200), -1)
    return picture


def letterbox(picture: NDArray[np.uint8], width: int, height: int, pad_value: int = 114) -> NDArray[np.uint8]:
    """Fit a picture as ultralytics does: centred, with grey around it."""
    ratio = min(height / picture.shape[0], width / picture.shape[1])
    size = (round(picture.shape[1] * ratio), round(picture.shape[0] * ratio))
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    left, top = round((width - size[0]) / 2 - 0.1), round((height - size[1]) / 2 - 0.1)
    fitted = np.full((height, width, 3), pad_value, np.uint8)
    fitted[top : top + size[1], left : left + size[0]] = resized
    return fitted


def iou(boxes: NDArray[Any], others: NDArray[Any]) -> FloatArray:
    """Intersection over union of xyxy boxes: [n,4], [m,4] -> [n,m]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(some[:, 2:] - some[:, :2], axis=1) for some in (boxes, others)]
    return np.asarray(intersection / np.maximum(areas[0][:, None] + areas[1][None] - intersection, 1e-9))


@dataclass
class Found:
    """Detections of one picture, best first: boxes [n,4] xyxy, scores [n], classes [n], anchors [n]."""

    boxes: FloatArray
    scores: FloatArray
    classes: NDArray[np.int64]
    anchors: NDArray[np.int64]


def reference_yolo(raw: NDArray[Any], head: YoloHead, num_classes: int, width: int, height: int) -> Found:
    """Decode one picture's raw predictions with loops, straight from the definition."""
    columns = (raw if head.layout == "yolov8" else raw.T).astype(np.float64)
    centre, size = columns[:2].T, columns[2:4].T
    scores = columns[4 : 4 + num_classes].T
    if head.layout != "yolov8":
        scores = columns[4][:, None] * columns[5 : 5 + num_classes].T
    if head.layout == "yolox":
        cells = [
            (column, row, stride)
            for stride in (8, 16, 32)
            for row in range(height // stride)
            for column in range(width // stride)
        ]
        for anchor, (column, row, stride) in enumerate(cells):
            centre[anchor] = (centre[anchor] + (column, row)) * stride
            size[anchor] = np.exp(size[anchor]) * stride
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    pairs = [
        (scores[anchor, label], anchor, label)
        for anchor, label in zip(*np.nonzero(scores > head.score_threshold), strict=True)
    ]
    kept: list[tuple[float, int, int]] = []
    for pair in sorted(pairs, reverse=True):
        rivals = [anchor for _, anchor, label in kept if label == pair[2]]
        if not rivals or iou(boxes[[pair[1]]], boxes[rivals]).max() <= head.iou_threshold:
            kept.append(pair)
        if len(kept) == head.max_detections:
            break
    anchors = np.array([anchor for _, anchor, _ in kept], np.int64)
    return Found(
        boxes=np.clip(boxes[anchors].reshape(-1, 4), 0, [width, height, width, height]),
        scores=np.array([score for score, _, _ in kept]),
        classes=np.array([label for _, _, label in kept], np.int64),
        anchors=anchors,
    )


def reference_mask(
    coefficients: NDArray[Any], prototypes: NDArray[Any], box: FloatArray, size: int, stride: float
) -> FloatArray:
    """Probability [size,size] at the centres of the cells of a box, prototypes interpolated bilinearly."""
    logits = np.tensordot(coefficients.astype(np.float64), prototypes.astype(np.float64), axes=1)
    centres = (np.arange(size) + 0.5) / size
    columns = np.clip((box[0] + (box[2] - box[0]) * centres) / stride - 0.5, 0, logits.shape[1] - 1)
    rows = np.clip((box[1] + (box[3] - box[1]) * centres) / stride - 0.5, 0, logits.shape[0] - 1)
    left, top = np.floor(columns).astype(int), np.floor(rows).astype(int)
    right, bottom = np.minimum(left + 1, logits.shape[1] - 1), np.minimum(top + 1, logits.shape[0] - 1)
    across, down = columns - left, (rows - top)[:, None]
    upper = logits[top][:, left] * (1 - across) + logits[top][:, right] * across
    lower = logits[bottom][:, left] * (1 - across) + logits[bottom][:, right] * across
    return np.asarray(1 / (1 + np.exp(-(upper * (1 - down) + lower * down))))
