"""The metric that judges fusion, on examples worked out by hand from the paper's definition."""

from __future__ import annotations

import numpy as np
import pytest

from tests.metrics.panoptic_quality import Labelled, PanopticQuality


def quality(truth: Labelled, prediction: Labelled) -> float:
    metric = PanopticQuality()
    metric.add(truth, prediction)
    return metric.quality


def row(*ids: int) -> np.ndarray:
    return np.array([ids])


TRUTH = Labelled(row(1, 1, 1, 1, 2, 2, 2, 2), {1: "car", 2: "road"})


def test_the_truth_itself_is_perfect():
    assert quality(TRUTH, Labelled(row(7, 7, 7, 7, 3, 3, 3, 3), {7: "car", 3: "road"})) == 1.0


def test_matches_count_by_their_iou():
    # car: 3 of 4 pixels; road: 4 of 5.
    prediction = Labelled(row(1, 1, 1, 2, 2, 2, 2, 2), {1: "car", 2: "road"})
    assert quality(TRUTH, prediction) == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_half_is_no_match():
    # car: IoU 1/2 exactly, one false positive and one false negative; road: 4 of 4, the rest void.
    prediction = Labelled(row(1, 1, 0, 0, 2, 2, 2, 2), {1: "car", 2: "road"})
    assert quality(TRUTH, prediction) == pytest.approx((0 + 1) / 2)


def test_the_wrong_category_is_both_a_false_positive_and_a_false_negative():
    prediction = Labelled(row(1, 1, 1, 1, 2, 2, 2, 2), {1: "truck", 2: "road"})
    assert quality(TRUTH, prediction) == pytest.approx((0 + 0 + 1) / 3)


def test_an_object_split_in_two_counts_once_and_once_wrong():
    # car: 3/4 matched, one false positive.
    prediction = Labelled(row(1, 1, 1, 3, 2, 2, 2, 2), {1: "car", 3: "car", 2: "road"})
    assert quality(TRUTH, prediction) == pytest.approx((0.75 / 1.5 + 1) / 2)


def test_void_of_the_truth_is_ignored():
    truth = Labelled(row(1, 1, 0, 0, 0, 0, 2, 2), {1: "car", 2: "road"})
    prediction = Labelled(row(1, 1, 1, 3, 3, 3, 2, 2), {1: "car", 2: "road", 3: "car"})
    assert quality(truth, prediction) == 1.0


def test_crowds_are_ignored():
    truth = Labelled(row(1, 1, 1, 1, 2, 2, 2, 2), {1: "car", 2: "road"}, crowds=frozenset({1}))
    road = {2: "road"}
    assert quality(truth, Labelled(row(0, 0, 0, 0, 2, 2, 2, 2), road)) == 1.0
    assert quality(truth, Labelled(row(1, 1, 3, 3, 2, 2, 2, 2), road | {1: "car", 3: "car"})) == 1.0
    assert quality(truth, Labelled(row(1, 1, 3, 3, 2, 2, 2, 2), road | {1: "car", 3: "dog"})) == 0.5
