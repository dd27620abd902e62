from __future__ import annotations

from math import nan

import pytest

from models.evaluation.result import Evaluation, Expectation, Findings, judge

EXPECTED = Expectation("mIoU", 0.70, 0.02)


@pytest.mark.parametrize(
    ("metrics", "passed"),
    [
        ({"mIoU": 0.70}, True),
        ({"mIoU": 0.95}, True),
        ({"mIoU": 0.69}, True),
        ({"mIoU": EXPECTED.least}, True),
        ({"mIoU": 0.6799}, False),
        ({"mIoU": 0.0}, False),
        ({"mIoU": nan}, False),
        ({"pixel_accuracy": 0.99}, False),
        ({}, False),
    ],
)
def test_an_expectation_is_met_down_to_its_tolerance(metrics: dict[str, float], passed: bool) -> None:
    (verdict,) = judge([EXPECTED], metrics)
    assert verdict.passed is passed


def test_a_shortfall_says_what_was_found_and_what_was_expected() -> None:
    metrics = {"mIoU": 0.5, "pixel_accuracy": 0.9}
    expectations = [EXPECTED, Expectation("pixel_accuracy", 0.8, 0), Expectation("top1", 0.9, 0.1)]
    evaluation = Evaluation(
        "semantic_segmentation", "bisenet", "camvid_val", 3, Findings(metrics, {}, {}), judge(expectations, metrics)
    )
    assert evaluation.shortfalls == (
        "semantic_segmentation (bisenet) on camvid_val: mIoU 0.5000, expected at least 0.6800 (0.7000 - 0.0200)",
        "semantic_segmentation (bisenet) on camvid_val: top1 missing, expected at least 0.8000 (0.9000 - 0.1000)",
    )
