"""The semantic segmentation service as a process, over a model whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from perception import convert
from perception.types import ClassMap
from perception.v1 import geometry_pb2, semantic_segmentation_pb2, semantic_segmentation_pb2_grpc, task_pb2

from services.runtime.engines import Model, ResizeRule, TensorSpec
from services.runtime.resize import Fit
from services.runtime.task_service import Run
from services.semantic_segmentation.postprocess import to_class_map
from tests.support.contract_models import picture
from tests.support.service import ServiceProcess

Segment = Callable[..., semantic_segmentation_pb2.SegmentSemanticsResponse]
MODEL, FRAME = geometry_pb2.RESOLUTION_MODEL, geometry_pb2.RESOLUTION_FRAME


@pytest.fixture
def segment(service: Callable[[str], ServiceProcess]) -> Segment:
    stub = semantic_segmentation_pb2_grpc.SemanticSegmentationServiceStub(service("semantic_segmentation").channel)
    request = semantic_segmentation_pb2.SegmentSemanticsRequest
    return lambda **fields: stub.SegmentSemantics(request(**fields), timeout=30)


def test_an_answer_is_complete(segment: Segment) -> None:
    answer = segment(image=convert.image_to_message(picture()), include_confidence=True)
    class_map = convert.class_map_from_message(answer.class_map)
    bright = (picture() > 127).any(axis=-1)
    np.testing.assert_array_equal(class_map.ids, bright)
    assert class_map.labels == ("dark", "bright")
    np.testing.assert_array_equal(class_map.confidence, np.where(bright, 2 * 200 - 255, 255 - 2 * 16))
    assert (answer.image_size.height, answer.image_size.width) == (48, 64)
    assert (answer.model.task, answer.model.name) == (task_pb2.TASK_SEMANTIC_SEGMENTATION, "semantic_segmentation")
    assert answer.timings[-1].stage == task_pb2.STAGE_TOTAL


@pytest.mark.parametrize(
    ("resolution", "size"),
    [
        (None, (96, 256)),  # not asked for: the frame's
        (FRAME, (96, 256)),
        (MODEL, (48, 64)),
    ],
)
def test_the_map_is_on_the_grid_that_was_asked_for(
    segment: Segment, resolution: geometry_pb2.Resolution | None, size: tuple[int, int]
) -> None:
    answer = segment(image=convert.image_to_message(picture(96, 256, (40, 16, 160, 60))), resolution=resolution)
    class_map = convert.class_map_from_message(answer.class_map)
    assert class_map.ids.shape == (answer.class_map.size.height, answer.class_map.size.width) == size
    # The picture's size is said besides, whatever the map's.
    assert (answer.image_size.height, answer.image_size.width) == (96, 256)
    rows, columns = np.nonzero(class_map.ids)
    y_scale, x_scale = 96 / size[0], 256 / size[1]
    seen = [columns.min() * x_scale, rows.min() * y_scale, (columns.max() + 1) * x_scale, (rows.max() + 1) * y_scale]
    np.testing.assert_allclose(seen, (40, 16, 160, 60), atol=4)
    assert class_map.confidence is None, "it was not asked for"


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 4000, 3), (4000, 3, 3)])
def test_extreme_pictures_get_a_map_of_their_size(segment: Segment, shape: tuple[int, int, int]) -> None:
    answer = segment(image=convert.image_to_message(np.full(shape, 255, np.uint8)), include_confidence=True)
    class_map = convert.class_map_from_message(answer.class_map)
    assert class_map.ids.shape == shape[:2]
    assert (class_map.ids == 1).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": None}, "image: is empty"),
        (
            {"resolution": 9},
            "resolution: is 9: expected one of RESOLUTION_UNSPECIFIED, RESOLUTION_MODEL, RESOLUTION_FRAME",
        ),
    ],
)
def test_a_wrong_request_names_its_field(segment: Segment, fields: dict[str, object], words: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        segment(**{"image": convert.image_to_message(picture()), **fields})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


LETTERBOXED = Model(
    name="semantic_segmentation",
    version="1",
    task="semantic_segmentation",
    labels=("top", "bottom", "bar"),
    resize=ResizeRule("letterbox"),
    max_batch_size=0,
    inputs=(TensorSpec("image", "UINT8", (64, 64, 3)),),
    outputs=(TensorSpec("class_map", "UINT8", (16, 16)),),
    catalog_entry="",
    weights_sha256="",
)


def run(**outputs: Any) -> Run:
    """A picture of 40 x 80 that a model of 64 x 64 saw, with bars above and below, and answered on a quarter of it."""
    return Run(LETTERBOXED, task_pb2.ModelInfo(), Fit((40, 80), (64, 64), (16, 0, 32, 64)), outputs)


def with_bars(top: int, bottom: int, bar: int) -> np.ndarray:
    values = np.full((16, 16), bar, np.uint8)
    values[4:8], values[8:12] = top, bottom
    return values


def as_value(message: semantic_segmentation_pb2.ClassMap) -> ClassMap:
    return convert.class_map_from_message(message)


def test_a_letterboxed_models_bars_are_cut_off() -> None:
    answered = run(class_map=with_bars(0, 1, 2), class_confidence=with_bars(50, 60, 0))
    on_model = as_value(to_class_map(answered, MODEL, include_confidence=True))
    np.testing.assert_array_equal(on_model.ids, np.repeat([[0], [1]], 4, axis=0) * np.ones((1, 16)))
    np.testing.assert_array_equal(on_model.confidence, np.repeat([[50], [60]], 4, axis=0) * np.ones((1, 16)))
    on_frame = as_value(to_class_map(answered, FRAME, include_confidence=True))
    np.testing.assert_array_equal(on_frame.ids, np.repeat([[0], [1]], 20, axis=0) * np.ones((1, 80)))
    assert on_frame.confidence is not None
    assert on_frame.confidence.shape == (40, 80)


def test_a_model_without_confidence_gives_none() -> None:
    message = to_class_map(run(class_map=with_bars(0, 1, 2)), FRAME, include_confidence=True)
    assert message.confidence_png == b""
    assert as_value(message).confidence is None
