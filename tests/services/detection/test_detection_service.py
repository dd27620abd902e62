"""The detection service as a process, over a model whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import grpc
import numpy as np
import pytest
from perception.convert import box_from_message, image_to_message
from perception.v1 import detection_pb2, detection_pb2_grpc, image_pb2, task_pb2

from tests.support.contract_models import picture
from tests.support.service import ServiceProcess

Detect = Callable[..., detection_pb2.DetectResponse]


@pytest.fixture
def detect(service: Callable[[str], ServiceProcess]) -> Detect:
    stub = detection_pb2_grpc.DetectionServiceStub(service("detection").channel)
    return lambda **fields: stub.Detect(detection_pb2.DetectRequest(**fields), timeout=30)


def test_an_answer_is_complete(detect: Detect) -> None:
    answer = detect(image=image_to_message(picture()))
    (found,) = answer.detections
    assert box_from_message(found.box) == (10, 8, 40, 30)
    assert found.score == pytest.approx(200 / 255)
    assert (found.class_id, found.label) == (1, "green")
    assert (answer.image_size.height, answer.image_size.width) == (48, 64)
    assert answer.model == task_pb2.ModelInfo(
        task=task_pb2.TASK_DETECTION, name="detection", version="1", catalog_entry="contract_detection"
    )
    assert [(timing.task, timing.stage) for timing in answer.timings] == [
        (task_pb2.TASK_DETECTION, stage)
        for stage in (
            task_pb2.STAGE_DECODE,
            task_pb2.STAGE_PREPROCESS,
            task_pb2.STAGE_INFERENCE,
            task_pb2.STAGE_POSTPROCESS,
            task_pb2.STAGE_TOTAL,
        )
    ]
    *stages, total = [timing.microseconds for timing in answer.timings]
    assert 0 < sum(stages) <= total


def test_how_urgent_a_request_is_stands_in_its_metadata(service: Callable[[str], ServiceProcess]) -> None:
    stub = detection_pb2_grpc.DetectionServiceStub(service("detection").channel)
    request = detection_pb2.DetectRequest(image=image_to_message(picture()))
    for word in ("high", "normal", "low"):
        assert stub.Detect(request, timeout=30, metadata=(("x-priority", word),)).detections
    with pytest.raises(grpc.RpcError) as raised:
        stub.Detect(request, timeout=30, metadata=(("x-priority", "urgent"),))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "x-priority: is 'urgent': expected one of high, normal, low"


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (480, 640, (100, 80, 400, 300)),  # ten times the model's input
        (640, 480, (100, 80, 400, 300)),  # bars at the sides
        (200, 900, (500, 20, 700, 180)),  # bars above and below
        (24, 32, (4, 4, 20, 20)),  # smaller than the input
    ],
)
def test_boxes_are_in_pixels_of_the_picture(
    detect: Detect, height: int, width: int, box: tuple[int, int, int, int]
) -> None:
    (found,) = detect(image=image_to_message(picture(height, width, box))).detections
    # To a pixel of the model's input.
    tolerance = max(height / 48, width / 64, 1)
    np.testing.assert_allclose(box_from_message(found.box), box, atol=tolerance)


def test_an_object_at_the_edge_stays_within_the_picture(detect: Detect) -> None:
    (found,) = detect(image=image_to_message(picture(100, 133, (0, 0, 133, 100)))).detections
    x_min, y_min, x_max, y_max = box_from_message(found.box)
    assert 0 <= x_min < x_max <= 133
    assert 0 <= y_min < y_max <= 100


def test_encoded_and_raw_pictures_give_the_same_answer(detect: Detect) -> None:
    png = cv2.imencode(".png", picture()[..., ::-1])[1].tobytes()
    raw = detect(image=image_to_message(picture()))
    assert detect(image=image_pb2.Image(encoded=png)).detections == raw.detections


@pytest.mark.parametrize(
    ("threshold", "found"),
    [
        (None, 1),  # the service's own: 0.25
        (0.0, 1),  # nought keeps everything that shows
        (0.78, 1),  # below the object's score of 200 / 255
        (0.79, 0),  # above it
        (1.0, 0),
    ],
)
def test_the_threshold_decides(detect: Detect, threshold: float | None, found: int) -> None:
    assert len(detect(image=image_to_message(picture()), score_threshold=threshold).detections) == found


def test_a_dark_picture_holds_nothing(detect: Detect) -> None:
    for image in (np.zeros((48, 64, 3), np.uint8), np.zeros((1, 1, 3), np.uint8), np.zeros((3, 4000, 3), np.uint8)):
        answer = detect(image=image_to_message(image), score_threshold=0.0)
        assert not answer.detections
        assert (answer.image_size.height, answer.image_size.width) == image.shape[:2]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "image: is empty"),
        ({"image": image_pb2.Image(encoded=b"")}, "image.encoded: is empty"),
        ({"image": image_pb2.Image(encoded=b"GIF89a")}, "image.encoded: unknown or broken format"),
        ({"score_threshold": float("nan")}, "score_threshold: is nan: expected 0 to 1"),
        ({"score_threshold": -0.1}, "score_threshold: is -0.1"),
        ({"score_threshold": 1.1}, "score_threshold: is 1.1"),
        ({"score_threshold": float("inf")}, "score_threshold: is inf"),
    ],
)
def test_a_wrong_request_names_its_field(detect: Detect, fields: dict[str, object], words: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        detect(**({"image": image_to_message(picture())} | fields if fields else {}))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()
