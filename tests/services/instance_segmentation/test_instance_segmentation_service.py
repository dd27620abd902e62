"""The instance segmentation service as a process, over a model whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import numpy as np
import pytest
from perception import codecs, convert, masks
from perception.v1 import geometry_pb2, instance_segmentation_pb2, instance_segmentation_pb2_grpc, task_pb2

from tests.support.contract_models import MASK_SIZE, picture
from tests.support.service import ServiceProcess

Segment = Callable[..., instance_segmentation_pb2.SegmentInstancesResponse]
BOX, RLE = geometry_pb2.MASK_FORMAT_BOX, geometry_pb2.MASK_FORMAT_RLE


@pytest.fixture
def segment(service: Callable[[str], ServiceProcess]) -> Segment:
    stub = instance_segmentation_pb2_grpc.InstanceSegmentationServiceStub(service("instance_segmentation").channel)
    request = instance_segmentation_pb2.SegmentInstancesRequest
    return lambda **fields: stub.SegmentInstances(request(**fields), timeout=30)


def test_an_answer_is_complete(segment: Segment) -> None:
    answer = segment(image=convert.image_to_message(picture()))
    (found,) = answer.instances
    assert convert.box_from_message(found.box) == (10, 8, 40, 30)
    assert found.score == pytest.approx(200 / 255)
    assert (found.class_id, found.label) == (1, "green")
    # Not asked for, masks are run lengths over the picture.
    assert (found.rle.height, found.rle.width) == (48, 64)
    expected = np.zeros((48, 64), np.bool_)
    expected[8:30, 10:40] = True
    np.testing.assert_array_equal(codecs.decode_rle(found.rle.counts, 48, 64), expected)
    assert (answer.image_size.height, answer.image_size.width) == (48, 64)
    assert (answer.model.task, answer.model.name) == (task_pb2.TASK_INSTANCE_SEGMENTATION, "instance_segmentation")
    assert answer.timings[-1].stage == task_pb2.STAGE_TOTAL


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (48, 64, (10, 8, 40, 30)),
        (480, 640, (100, 80, 400, 300)),
        (300, 200, (30, 60, 170, 240)),
        (300, 200, (0, 0, 200, 300)),  # over the whole picture
        (300, 200, (150, 200, 200, 300)),  # in a corner
    ],
)
def test_both_forms_of_a_mask_agree(segment: Segment, height: int, width: int, box: tuple[int, int, int, int]) -> None:
    image = convert.image_to_message(picture(height, width, box))
    (as_box,) = segment(image=image, mask_format=BOX).instances
    (as_rle,) = segment(image=image, mask_format=RLE).instances
    assert as_box.box == as_rle.box
    assert as_box.box_mask.size == MASK_SIZE
    part, x, y = masks.paste(
        convert.box_mask_from_message(as_box.box_mask), convert.box_from_message(as_box.box), height, width
    )
    pasted = np.zeros((height, width), np.bool_)
    pasted[y : y + part.shape[0], x : x + part.shape[1]] = part
    np.testing.assert_array_equal(codecs.decode_rle(as_rle.rle.counts, height, width), pasted)
    # And with the picture, to a pixel of the model's input along each edge.
    x_min, y_min, x_max, y_max = box
    truth = np.zeros((height, width), np.bool_)
    truth[y_min:y_max, x_min:x_max] = True
    scale = max(height / 48, width / 64)
    assert (pasted != truth).sum() <= scale * 2 * (x_max - x_min + y_max - y_min)


def test_a_dark_picture_holds_nothing(segment: Segment) -> None:
    for shape in ((48, 64, 3), (1, 1, 3), (4000, 3, 3)):
        assert not segment(image=convert.image_to_message(np.zeros(shape, np.uint8)), score_threshold=0.0).instances


def test_a_picture_longer_than_opencv_remaps_is_segmented(segment: Segment) -> None:
    image = convert.image_to_message(picture(3, 50_000, (0, 0, 50_000, 3)))
    (found,) = segment(image=image, mask_format=RLE).instances
    assert codecs.rle_area(found.rle.counts) > 0.9 * 3 * 50_000


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": None}, "image: is empty"),
        ({"score_threshold": float("nan")}, "score_threshold: is nan: expected 0 to 1"),
        (
            {"mask_format": 7},
            "mask_format: is 7: expected one of MASK_FORMAT_UNSPECIFIED, MASK_FORMAT_RLE, MASK_FORMAT_BOX",
        ),
    ],
)
def test_a_wrong_request_names_its_field(segment: Segment, fields: dict[str, object], words: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        segment(**{"image": convert.image_to_message(picture()), **fields})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()
