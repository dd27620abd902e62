import pickle

import numpy as np
import pytest

from models.datasets.sample import DatasetError, Sample, Segment, mask_box

IMAGE = np.zeros((4, 6, 3), np.uint8)
CAR = Segment(7, "car", True, (1.0, 1.0, 3.0, 3.0), 4)


def panoptic(*ids: int) -> np.ndarray:
    values = np.zeros((4, 6), np.int32)
    for column, segment_id in enumerate(ids):
        values[1:3, column] = segment_id
    return values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((4, 6), np.uint8)}, r"image uint8 \[H, W, 3\], found uint8 \(4, 6\)"),
        ({"image": IMAGE.astype(np.float32)}, r"found float32 \(4, 6, 3\)"),
        ({"panoptic": np.zeros((4, 5), np.int32)}, r"panoptic map int32 \(4, 6\), found int32 \(4, 5\)"),
        ({"panoptic": np.zeros((4, 6), np.int64)}, "found int64"),
        ({"semantic": np.zeros((4, 6), np.int32)}, "semantic map uint8"),
        ({"segments": (CAR, CAR)}, r"unique segment ids, found \[7, 7\]"),
        ({"segments": (CAR,), "masks": ()}, "expected 1 masks"),
        ({"segments": (CAR,), "masks": (np.zeros((4, 6), np.uint8),)}, "mask bool"),
    ],
)
def test_a_wrong_sample_says_what_was_expected_and_found(arguments: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Sample(**{"image": IMAGE, "file_name": "a.jpg", "image_id": 1} | arguments)


@pytest.mark.parametrize(
    ("segment_id", "box", "area", "message"),
    [
        (0, (0.0, 0.0, 1.0, 1.0), 1, "positive integer, found 0"),
        (1, (2.0, 0.0, 1.0, 1.0), 1, "x0 <= x1"),
        (1, (0.0, 0.0, float("nan"), 1.0), 1, "finite"),
        (1, (0.0, 0.0, 1.0, 1.0), -1, "area >= 0, found -1"),
    ],
)
def test_a_wrong_segment_says_what_was_expected_and_found(
    segment_id: int, box: tuple[float, float, float, float], area: float, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        Segment(segment_id, "car", True, box, area)


def test_the_mask_of_a_segment_is_where_the_panoptic_map_has_its_id() -> None:
    sample = Sample(IMAGE, "a.jpg", 1, panoptic=panoptic(0, 7, 7), segments=(CAR,))
    assert mask_box(sample.mask(CAR)) == CAR.box
    assert np.count_nonzero(sample.mask(CAR)) == CAR.area


def test_overlapping_instances_have_masks_of_their_own() -> None:
    other = Segment(8, "car", True, (0.0, 0.0, 6.0, 4.0), 24)
    masks = (panoptic(0, 7, 7) == 7, np.ones((4, 6), bool))
    sample = Sample(IMAGE, "a.jpg", 1, segments=(CAR, other), masks=masks)
    assert np.count_nonzero(sample.mask(CAR) & sample.mask(other)) == 4


def test_a_sample_without_masks_says_so() -> None:
    with pytest.raises(DatasetError, match="found neither"):
        Sample(IMAGE, "a.jpg", 1, segments=(CAR,)).mask(CAR)


@pytest.mark.parametrize("ids", [(0, 0, 0), (0, 7, 9)], ids=["id missing in the map", "id unknown to the segments"])
def test_a_map_that_disagrees_with_the_segments_is_found(ids: tuple[int, ...]) -> None:
    with pytest.raises(DatasetError, match="disagree"):
        Sample(IMAGE, "a.jpg", 1, panoptic=panoptic(*ids), segments=(CAR,)).check_pixels()


def test_attributes_cannot_be_changed_and_survive_pickling() -> None:
    segment = Segment(7, "box", True, (0.0, 0.0, 1.0, 1.0), 1, 3, {"condition": "damaged"}, True)
    with pytest.raises(TypeError):
        segment.attributes["condition"] = "intact"  # type: ignore[index]
    assert pickle.loads(pickle.dumps(segment)) == segment
