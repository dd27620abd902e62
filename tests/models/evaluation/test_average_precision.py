from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from models.evaluation.average_precision import AveragePrecision, AveragePrecisionResult, CocoObject

LABELS = ("car", "person", "gear")


def box(x0: float, y0: float, x1: float, y1: float, label: str = "car", score: float = 1.0) -> CocoObject:
    return CocoObject(label, (x0, y0, x1, y1), (x1 - x0) * (y1 - y0), score)


def crowd(x0: float, y0: float, x1: float, y1: float) -> CocoObject:
    return CocoObject("car", (x0, y0, x1, y1), (x1 - x0) * (y1 - y0), is_crowd=True)


def with_mask(mask: np.ndarray, score: float = 1.0) -> CocoObject:
    counts = coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
    return CocoObject("car", (0, 0, 40, 40), int(mask.sum()), score, counts=counts, size=mask.shape)


def of_one_picture(truth: list[CocoObject], found: list[CocoObject]) -> AveragePrecisionResult:
    precision = AveragePrecision(LABELS)
    precision.add(7, truth, found)
    return precision.result("box")


A, B = (0, 0, 40, 40), (100, 100, 160, 160)


def test_everything_found_and_nothing_else() -> None:
    result = of_one_picture([box(*A), box(*B, label="person")], [box(*A), box(*B, label="person", score=0.6)])
    assert result.metrics == pytest.approx({"box_mAP": 1, "box_mAP50": 1, "box_mAP75": 1})
    assert result.by_label == pytest.approx({"car": 1, "person": 1})
    assert result.frame_scores == {7: 1}


def test_a_false_alarm_between_two_hits() -> None:
    found = [box(*A, score=0.9), box(300, 0, 340, 40, score=0.8), box(*B, score=0.7)]
    result = of_one_picture([box(*A), box(*B)], found)
    # Precision is 1 up to a recall of 0.5, which is 51 of the 101 levels, and 2/3 on the other 50.
    assert result.metrics["box_mAP"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result.curve.by_iou["IoU 0.50"][[0, 50, 51, 100]] == pytest.approx([1, 1, 2 / 3, 2 / 3])
    assert result.frame_scores == {7: pytest.approx(2 * 2 / (3 + 2))}


def test_a_box_counts_at_the_thresholds_that_its_iou_reaches() -> None:
    # IoU = 40 * 25 / (40 * 40) = 0.625: reaches 0.50, 0.55 and 0.60 of the ten thresholds.
    result = of_one_picture([box(0, 0, 40, 40)], [box(0, 0, 40, 25)])
    assert result.metrics == pytest.approx({"box_mAP": 0.3, "box_mAP50": 1, "box_mAP75": 0})


def test_the_right_place_with_the_wrong_label() -> None:
    result = of_one_picture([box(*A)], [box(*A, label="person")])
    assert result.metrics["box_mAP50"] == 0
    assert result.by_label == {"car": 0}
    assert result.frame_scores == {7: 0}


def test_nothing_found() -> None:
    result = of_one_picture([box(*A)], [])
    assert result.metrics == {"box_mAP": 0, "box_mAP50": 0, "box_mAP75": 0}


def test_nothing_to_find_is_nothing_to_measure() -> None:
    result = of_one_picture([], [])
    assert np.isnan(result.metrics["box_mAP"])
    assert result.frame_scores == {7: 1}


def test_objects_inside_a_crowd_are_neither_right_nor_wrong() -> None:
    found = [box(110, 110, 130, 130, score=0.9), box(*A, score=0.8)]
    result = of_one_picture([box(*A), crowd(*B)], found)
    assert result.metrics["box_mAP"] == pytest.approx(1)
    assert result.frame_scores == {7: 1}


def test_labels_that_are_not_compared_are_left_out_on_both_sides() -> None:
    result = of_one_picture([box(*A), box(*B, label="dog")], [box(*A), box(*A, label="cat")])
    assert result.metrics["box_mAP"] == pytest.approx(1)
    assert result.frame_scores == {7: 1}


def test_a_picture_is_judged_by_what_a_user_would_see() -> None:
    result = of_one_picture(
        [box(*A), box(*B)], [box(*A, score=0.9), box(*B, score=0.2), box(300, 0, 340, 40, score=0.1)]
    )
    assert result.frame_scores == {7: pytest.approx(2 / 3)}


def test_ap_is_over_all_pictures_together() -> None:
    precision = AveragePrecision(LABELS)
    precision.add(1, [box(*A)], [box(*A, score=0.5)])
    precision.add(2, [], [box(*A, score=0.9)])
    result = precision.result("box")
    assert result.metrics["box_mAP"] == pytest.approx(0.5)
    assert result.frame_scores == {1: 1, 2: 0}


def test_masks_are_compared_by_their_pixels() -> None:
    true, found = np.zeros((50, 60), bool), np.zeros((50, 60), bool)
    true[:40, :40], found[:40, :25] = True, True
    precision = AveragePrecision(LABELS)
    precision.add(1, [with_mask(true)], [with_mask(found)])
    assert precision.result("box").metrics["box_mAP"] == pytest.approx(1)
    assert precision.result("mask").metrics == pytest.approx({"mask_mAP": 0.3, "mask_mAP50": 1, "mask_mAP75": 0})
