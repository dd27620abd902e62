"""The classification service as a process, over a model whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import numpy as np
import pytest
from perception.convert import box_to_message, image_to_message
from perception.v1 import classification_pb2, classification_pb2_grpc, task_pb2

from services.classification.postprocess import to_classifications
from services.runtime.settings import TaskSettings
from tests.support.contract_models import LABELS
from tests.support.service import ServiceProcess

Classify = Callable[..., classification_pb2.ClassifyResponse]
COLOURS = np.array([[220, 30, 20], [20, 220, 30], [30, 20, 220]], np.uint8)


@pytest.fixture
def classify(service: Callable[[str], ServiceProcess]) -> Classify:
    stub = classification_pb2_grpc.ClassificationServiceStub(service("classification").channel)
    return lambda **fields: stub.Classify(classification_pb2.ClassifyRequest(**fields), timeout=30)


def tiles(order: list[int]) -> np.ndarray:
    """A picture of 20 x 20 tiles in a row, each red (0), green (1) or blue (2)."""
    return np.repeat(np.repeat(COLOURS[order][None], 20, axis=0), 20, axis=1)


def boxes(count: int) -> list[tuple[float, float, float, float]]:
    return [(20 * n, 0, 20 * n + 20, 20) for n in range(count)]


def names(answer: classification_pb2.ClassifyResponse) -> list[str]:
    return [region.classes[0].label for region in answer.classifications]


def test_a_whole_picture(classify: Classify) -> None:
    answer = classify(image=image_to_message(tiles([1])), top_k=3)
    (region,) = answer.classifications
    means = COLOURS[1].astype(float) / 16
    softmax = np.exp(means - means.max()) / np.exp(means - means.max()).sum()
    assert [found.label for found in region.classes] == ["green", "blue", "red"]
    assert [found.class_id for found in region.classes] == [1, 2, 0]
    np.testing.assert_allclose([found.score for found in region.classes], softmax[[1, 2, 0]], rtol=1e-4)
    assert (answer.image_size.height, answer.image_size.width) == (20, 20)
    assert (answer.model.task, answer.model.name) == (task_pb2.TASK_CLASSIFICATION, "classification")
    assert answer.timings[-1].stage == task_pb2.STAGE_TOTAL


@pytest.mark.parametrize(
    "count",
    [
        1,
        8,  # the model's largest batch
        9,  # one more
        30,  # several batches and a rest
    ],
)
def test_regions_are_answered_in_the_order_of_their_boxes(classify: Classify, count: int) -> None:
    order = [(7 * n * n + n) % 3 for n in range(count)]
    answer = classify(image=image_to_message(tiles(order)), boxes=map(box_to_message, boxes(count)))
    assert names(answer) == [LABELS["classification"][colour] for colour in order]
    backwards = classify(image=image_to_message(tiles(order)), boxes=map(box_to_message, reversed(boxes(count))))
    assert names(backwards) == names(answer)[::-1]


@pytest.mark.parametrize(("top_k", "expected"), [(0, 1), (1, 1), (2, 2), (3, 3), (2**32 - 1, 3)])
def test_as_many_classes_as_were_asked_for(classify: Classify, top_k: int, expected: int) -> None:
    (region,) = classify(image=image_to_message(tiles([0])), top_k=top_k).classifications
    scores = [found.score for found in region.classes]
    assert len(scores) == expected
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("box", "label"),
    [
        ((19.5, 0, 20, 20), "red"),  # part of a pixel: that pixel
        ((20, 19.9, 20.1, 20), "green"),
        ((39.99, 19.99, 40, 20), "green"),  # the last corner
        ((0, 0, 40, 20), "green"),  # the whole picture: as much of both tiles, and the green one is the brighter
    ],
)
def test_what_part_of_a_pixel_shows_is_that_pixel(
    classify: Classify, box: tuple[float, float, float, float], label: str
) -> None:
    assert names(classify(image=image_to_message(tiles([0, 1])), boxes=[box_to_message(box)])) == [label]


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((-1, 0, 5, 5), r"boxes[1]: is (-1, 0, 5, 5)"),  # left of the picture
        ((0, -1, 5, 5), "boxes[1]: is (0, -1, 5, 5)"),
        ((0, 0, 41, 5), "boxes[1]: is (0, 0, 41, 5)"),  # over its right edge
        ((0, 0, 5, 21), "boxes[1]: is (0, 0, 5, 21)"),
        ((5, 5, 5, 9), "boxes[1]: is (5, 5, 5, 9)"),  # a line
        ((9, 5, 5, 9), "boxes[1]: is (9, 5, 5, 9)"),  # turned around
        ((float("nan"), 0, 5, 5), "boxes[1]: is (nan, 0, 5, 5)"),
        ((0, 0, float("inf"), 5), "boxes[1]: is (0, 0, inf, 5)"),
    ],
)
def test_a_box_that_is_no_part_of_the_picture_is_named(
    classify: Classify, box: tuple[float, float, float, float], found: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        classify(image=image_to_message(tiles([0, 1])), boxes=[box_to_message(b) for b in ((0, 0, 5, 5), box)])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == f"{found}: expected a box of some area within the picture of 40 x 20 pixels"


def test_more_boxes_than_allowed_are_refused(classify: Classify) -> None:
    box = box_to_message((0, 0, 5, 5))
    with pytest.raises(grpc.RpcError) as caught:
        classify(image=image_to_message(tiles([0])), boxes=[box] * (TaskSettings().max_boxes + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "boxes: 1001 boxes, the limit is 1000"


def test_no_picture(classify: Classify) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        classify()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_classes_of_equal_score_keep_the_models_order() -> None:
    (region,) = to_classifications(np.array([[0.2, 0.4, 0.4]], np.float32), ("a", "b", "c"), 3)
    assert [found.label for found in region.classes] == ["b", "c", "a"]
