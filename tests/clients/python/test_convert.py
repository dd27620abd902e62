"""Messages to values and back; what a malformed answer does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perception import Scene, codecs, convert
from perception.v1 import image_pb2, perception_pb2, task_pb2

from tests.clients.python.scenes import HEIGHT, IDS, WIDTH, response

Response = perception_pb2.PerceiveResponse


def test_a_scene_holds_what_the_answer_says() -> None:
    scene = Scene.from_message(response())
    assert (scene.request_id, scene.image_size) == ("frame-7", (HEIGHT, WIDTH))
    np.testing.assert_array_equal(scene.panoptic.ids, IDS)
    car, road = scene.panoptic.segments
    assert (car.category, car.is_thing, car.score, car.box, car.area, car.color) == (
        *("car", True, 0.75),
        *((2.0, 1.0, 5.0, 3.0), 6, (255, 128, 0)),
    )
    assert [(found.name, found.value, found.score) for found in car.attributes] == [("colour", "red", 0.5)]
    assert (road.category, road.is_thing) == ("road", False)
    assert scene.detections.boxes.tolist() == [[2, 1, 5, 3]]
    assert (scene.detections.labels, scene.detections.class_ids.tolist()) == (("car",), [2])
    assert scene.instances.masks[0].tolist() == [[255]]
    assert scene.class_map is not None
    assert scene.class_map.ids.tolist() == [[255] * 4, [255] * 4, [0] * 4]
    assert (scene.class_map.labels, scene.class_map.confidence) == (("road",), None)
    assert scene.task_status["detection"].ok
    failed = scene.task_status["classification"]
    assert (failed.ok, failed.state, failed.code, failed.reason) == (
        False,
        "FAILED",
        "UNAVAILABLE",
        "connection refused",
    )
    assert scene.models["detection"].catalog_entry == "yolov8n_coco"
    assert scene.timings == {"fuse": 0.0015, "detection.inference": 0.02}


def test_run_lengths_give_the_same_scene_as_the_png() -> None:
    answer = response()
    answer.panoptic.png = b""
    for segment in answer.panoptic.segments:
        segment.rle.height, segment.rle.width = HEIGHT, WIDTH
        segment.rle.counts = codecs.encode_rle(segment.id == IDS)
    np.testing.assert_array_equal(Scene.from_message(answer).panoptic.ids, IDS)


def test_an_answer_without_a_class_map_has_none() -> None:
    answer = response()
    answer.ClearField("class_map")
    assert Scene.from_message(answer).class_map is None


def test_the_confidence_of_a_class_map() -> None:
    answer = response()
    confidence = np.arange(12, dtype=np.uint8).reshape(3, 4)
    answer.class_map.confidence_png = codecs.encode_png(confidence)
    scene = Scene.from_message(answer)
    assert scene.class_map is not None
    np.testing.assert_array_equal(scene.class_map.confidence, confidence)


def _claim_a_huge_panoptic_map(answer: Response) -> None:
    answer.panoptic.png = b""
    answer.panoptic.size.height = answer.panoptic.size.width = 2**32 - 1


def _cut_the_panoptic_map(answer: Response) -> None:
    answer.panoptic.png = answer.panoptic.png[:40]


def _forget_a_segment(answer: Response) -> None:
    del answer.panoptic.segments[1]


def _number_a_segment_too_high(answer: Response) -> None:
    answer.panoptic.png = b""
    for segment in answer.panoptic.segments:
        segment.rle.counts = codecs.encode_rle(segment.id == IDS)
    answer.panoptic.segments[0].id = 2**32 - 1


def _number_a_class_too_high(answer: Response) -> None:
    answer.detections[0].class_id = 2**32 - 1


def _send_half_a_mask(answer: Response) -> None:
    answer.instances[0].box_mask.size = 2


def _send_no_mask(answer: Response) -> None:
    answer.instances[0].ClearField("box_mask")


def _send_run_lengths_for_a_box_mask(answer: Response) -> None:
    answer.instances[0].rle.counts = b"0"


def _send_sixteen_bits_of_class(answer: Response) -> None:
    answer.class_map.png = codecs.encode_png(np.zeros((3, 4), np.uint16))


def _misstate_the_class_maps_size(answer: Response) -> None:
    answer.class_map.size.height = 4


def _name_too_many_labels(answer: Response) -> None:
    answer.class_map.labels.extend(["x"] * 255)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_claim_a_huge_panoptic_map, "expected at most 268435456"),
        (_cut_the_panoptic_map, "broken PNG"),
        (_forget_a_segment, r"expected the map's ids \[2, 300\], got \[300\]"),
        (_number_a_segment_too_high, "segment id: expected at most 65535, got 4294967295"),
        (_number_a_class_too_high, "class_id: expected at most 2147483647, got 4294967295"),
        (_send_half_a_mask, "box mask of 1 bytes, expected 2 x 2"),
        (_send_no_mask, "box mask of 0 bytes, expected 0 x 0, at least 1"),
        (_send_run_lengths_for_a_box_mask, "at least 1"),
        (_send_sixteen_bits_of_class, "PNG of 16 bits, expected 8"),
        (_misstate_the_class_maps_size, "PNG of 3 x 4 pixels, expected 4 x 4"),
        (_name_too_many_labels, "at most 255 labels, got 256"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_malformed_answer_is_a_value_error(damage: Callable[[Response], None], words: str) -> None:
    answer = response()
    damage(answer)
    with pytest.raises(ValueError, match=words):
        Scene.from_message(answer)


def test_every_kind_of_picture_becomes_a_message(tmp_path: Path) -> None:
    data = b"the bytes of a file"
    path = tmp_path / "frame.jpg"
    path.write_bytes(data)
    for image in (data, path, str(path)):
        assert convert.image_to_message(image) == image_pb2.Image(encoded=data)
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    raw = image_pb2.RawImage(format=image_pb2.PIXEL_FORMAT_RGB8, height=2, width=3, data=bytes(range(18)))
    assert convert.image_to_message(pixels) == image_pb2.Image(raw=raw)
    # A view with gaps between its rows, such as a crop.
    wide = np.zeros((2, 9, 3), np.uint8)
    wide[:, ::3] = pixels
    assert convert.image_to_message(wide[:, ::3]) == image_pb2.Image(raw=raw)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((4, 4), np.uint8), r"uint8 \[4, 4\]"),  # grey
        (np.zeros((4, 4, 4), np.uint8), r"uint8 \[4, 4, 4\]"),  # with alpha
        (np.zeros((4, 4, 3), np.float32), r"float32 \[4, 4, 3\]"),  # 0 to 1
        (np.zeros((1, 4, 4, 3), np.uint8), r"uint8 \[1, 4, 4, 3\]"),  # a batch
    ],
)
def test_an_array_that_is_no_picture_is_refused(array: np.ndarray, found: str) -> None:
    with pytest.raises(ValueError, match=rf"expected RGB uint8 \[H, W, 3\], got {found}"):
        convert.image_to_message(array)


def test_a_path_that_leads_nowhere_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        convert.image_to_message(tmp_path / "missing.jpg")


@given(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 4))
def test_a_box_comes_back(box: tuple[float, float, float, float]) -> None:
    assert convert.box_from_message(convert.box_to_message(box)) == box


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_comes_back(color: tuple[int, int, int]) -> None:
    assert convert.color_from_integer(convert.color_to_integer(color)) == color


def test_red_is_the_highest_byte() -> None:
    assert convert.color_to_integer((255, 128, 1)) == 0xFF8001


def test_every_task_has_a_name_in_snake_case() -> None:
    from perception.scene import task_name

    assert [task_name(task) for task in task_pb2.Task.values()] == [
        *("unspecified", "detection", "instance_segmentation", "semantic_segmentation", "classification")
    ]


def test_what_only_a_newer_gateway_knows_is_shown_as_its_number() -> None:
    answer = response()
    answer.task_status[0].state = 99  # type: ignore[assignment]
    answer.models[0].task = 98  # type: ignore[assignment]
    answer.timings.add(task=0, stage=97, microseconds=5)  # type: ignore[arg-type]
    scene = Scene.from_message(answer)
    assert "99" in {status.state for status in scene.task_status.values()}
    assert "98" in scene.models
    assert scene.timings["97"] == pytest.approx(5e-6)
