import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.catalog.schema import YoloHead
from models.export.yolo_head import YOLOX_STRIDES, yolo_head
from tests.models.export.support import FloatArray, reference_mask, reference_yolo, run

WIDTH, HEIGHT, CLASSES = 96, 64, 3
ANCHORS = sum((WIDTH // stride) * (HEIGHT // stride) for stride in YOLOX_STRIDES)
PROTOTYPES = (5, HEIGHT // 4, WIDTH // 4)


def predictions(layout: str, batch: int, coefficients: int = 0, seed: int = 0) -> NDArray[np.float32]:
    """Raw predictions in which objects overlap: clusters of boxes, with one to three likely classes."""
    random = np.random.default_rng(seed)
    clusters = random.uniform((10, 10), (WIDTH - 10, HEIGHT - 10), (batch, 6, 2))
    chosen = random.integers(0, 6, (batch, ANCHORS))
    centre = np.take_along_axis(clusters, chosen[..., None], axis=1) + random.normal(0, 3, (batch, ANCHORS, 2))
    size = random.uniform(12, 40, (batch, ANCHORS, 2))
    scores = random.beta(0.3, 3, (batch, ANCHORS, CLASSES))
    parts: list[FloatArray] = [centre, size]
    if layout == "yolox":
        parts = [random.uniform(0, 1, (batch, ANCHORS, 2)), random.normal(0.5, 0.5, (batch, ANCHORS, 2))]
    if layout != "yolov8":
        parts.append(random.uniform(0.2, 1, (batch, ANCHORS, 1)))
    parts.append(scores)
    if coefficients:
        parts.append(random.normal(0, 1, (batch, ANCHORS, coefficients)))
    raw = np.concatenate(parts, axis=2).astype(np.float32)
    return np.ascontiguousarray(raw.transpose(0, 2, 1)) if layout == "yolov8" else raw


def graph(head: YoloHead, raw: NDArray[np.float32], prototype_shape: tuple[int, ...] = ()) -> onnx.ModelProto:
    model = yolo_head(head, CLASSES, (raw.shape[1], raw.shape[2]), prototype_shape, (WIDTH, HEIGHT))
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("layout", ["yolov8", "yolov5", "yolox"])
@pytest.mark.parametrize("max_detections", [5, 100])
def test_detections_are_those_of_the_definition(layout: str, max_detections: int) -> None:
    head = YoloHead(layout=layout, score_threshold=0.02, max_detections=max_detections)
    raw = predictions(layout, batch=3)
    outputs = run(graph(head, raw), raw=raw)
    for image in range(3):
        expected = reference_yolo(raw[image], head, CLASSES, WIDTH, HEIGHT)
        count = int(outputs["num_detections"][image, 0])
        assert count == len(expected.scores)
        assert count >= 5, "the predictions are too easy to tell anything"
        np.testing.assert_allclose(outputs["detection_scores"][image, :count], expected.scores, atol=1e-6)
        np.testing.assert_allclose(outputs["detection_boxes"][image, :count], expected.boxes, atol=1e-3)
        np.testing.assert_array_equal(outputs["detection_classes"][image, :count], expected.classes)


def test_rows_behind_the_detections_are_zero_and_rows_are_sorted() -> None:
    head = YoloHead(layout="yolov8", score_threshold=0.3)
    raw = predictions("yolov8", batch=2)
    raw[1, 4:] = 0.0  # a picture in which nothing is found
    outputs = run(graph(head, raw), raw=raw)
    count = int(outputs["num_detections"][0, 0])
    assert 0 < count < outputs["detection_scores"].shape[1]
    assert (np.diff(outputs["detection_scores"][0]) <= 0).all()
    assert int(outputs["num_detections"][1, 0]) == 0
    for name in ("detection_boxes", "detection_scores", "detection_classes"):
        assert not outputs[name][0, count:].any(), name
        assert not outputs[name][1].any(), name


def test_suppression_is_of_one_class_alone() -> None:
    raw = np.zeros((1, 4 + CLASSES, ANCHORS), np.float32)
    raw[0, :4, :3] = np.array([48, 32, 20, 20])[:, None]
    raw[0, 4, 0], raw[0, 4, 1], raw[0, 5, 2] = 0.9, 0.8, 0.7
    outputs = run(graph(YoloHead(layout="yolov8"), raw), raw=raw)
    assert outputs["num_detections"][0, 0] == 2
    np.testing.assert_allclose(outputs["detection_scores"][0, :2], [0.9, 0.7])
    np.testing.assert_array_equal(outputs["detection_classes"][0, :2], [0, 1])


def test_an_anchor_can_be_of_two_classes() -> None:
    raw = np.zeros((1, 4 + CLASSES, ANCHORS), np.float32)
    raw[0, :4, 7] = 48, 32, 20, 20
    raw[0, 4:6, 7] = 0.9, 0.6
    outputs = run(graph(YoloHead(layout="yolov8"), raw), raw=raw)
    np.testing.assert_array_equal(outputs["detection_classes"][0, :2], [0, 1])


def test_boxes_are_cut_off_at_the_picture() -> None:
    raw = np.zeros((1, 4 + CLASSES, ANCHORS), np.float32)
    raw[0, :5, 0] = 2, 60, 40, 40, 0.9
    outputs = run(graph(YoloHead(layout="yolov8"), raw), raw=raw)
    np.testing.assert_allclose(outputs["detection_boxes"][0, 0], [0, 40, 22, HEIGHT])


@pytest.mark.parametrize("layout", ["yolov8", "yolov5"])
def test_masks_are_the_prototypes_inside_each_box(layout: str) -> None:
    head = YoloHead(layout=layout, score_threshold=0.05, max_detections=20, mask_size=14)
    raw = predictions(layout, batch=2, coefficients=PROTOTYPES[0])
    prototypes = np.random.default_rng(1).normal(0, 2, (2, *PROTOTYPES)).astype(np.float32)
    outputs = run(graph(head, raw, PROTOTYPES), raw=raw, prototypes=prototypes)
    for image in range(2):
        expected = reference_yolo(raw[image], head, CLASSES, WIDTH, HEIGHT)
        columns = raw[image] if layout == "yolov8" else raw[image].T
        assert len(expected.scores) == 20
        for row, anchor in enumerate(expected.anchors):
            coefficients = columns[-PROTOTYPES[0] :, anchor]
            probability = reference_mask(coefficients, prototypes[image], expected.boxes[row], 14, 4.0)
            levels = outputs["detection_masks"][image, row].astype(float)
            assert np.abs(levels - probability * 255).max() <= 0.55
            assert (levels > 127).any(), "an empty mask tells nothing"


def test_more_anchors_than_candidates_do_not_change_the_best() -> None:
    random = np.random.default_rng(3)
    anchors = 4000
    raw = np.zeros((1, 4 + CLASSES, anchors), np.float32)
    raw[0, :2] = random.uniform(0, 64, (2, anchors))
    raw[0, 2:4] = random.uniform(2, 30, (2, anchors))
    raw[0, 4:] = random.beta(0.2, 4, (CLASSES, anchors))
    head = YoloHead(layout="yolov8", max_detections=50)
    expected = reference_yolo(raw[0], head, CLASSES, WIDTH, HEIGHT)
    outputs = run(graph(head, raw), raw=raw)
    np.testing.assert_allclose(outputs["detection_scores"][0], expected.scores, atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "shape", "prototypes", "message"),
    [
        ("yolov8", (8, 126), (), "expected raw predictions of 7 channels, found 8"),
        ("yolov5", (126, 7), (), "expected raw predictions of 8 channels, found 7"),
        ("yolov8", (7, 126), (5, 16, 24), "expected raw predictions of 12 channels, found 7"),
        ("yolox", (100, 8), (), "expected 126 anchors of strides"),
    ],
)
def test_predictions_of_another_shape_are_refused(
    layout: str, shape: tuple[int, int], prototypes: tuple[int, ...], message: str
) -> None:
    head = YoloHead(layout=layout, mask_size=14 if prototypes else 0)
    with pytest.raises(ValueError, match=message):
        yolo_head(head, CLASSES, shape, prototypes, (WIDTH, HEIGHT))
