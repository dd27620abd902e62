from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.confusion import Confusion, top_k_accuracy

LABELS = ("sky", "road", "car")
NONE, IGNORE = 3, 255


def counted(truth: list[int], predicted: list[int]) -> Confusion:
    return Confusion.of(LABELS, np.array(truth, np.uint8), np.array(predicted, np.uint8))


def test_counts_by_true_and_predicted_class() -> None:
    confusion = counted([0, 0, 0, 1, 1, IGNORE], [0, 0, 1, 1, NONE, 0])
    assert confusion.counts.tolist() == [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert confusion.total == 5
    # sky: 2 / (3 + 2 - 2); road: 1 / (2 + 2 - 1); there is no car, so it is not averaged.
    assert confusion.iou() == pytest.approx({"sky": 2 / 3, "road": 1 / 3})
    assert confusion.mean_iou() == pytest.approx(1 / 2)
    assert confusion.accuracy() == pytest.approx(3 / 5)


def test_a_class_seen_where_it_is_not_costs_the_class_that_is_there() -> None:
    assert counted([0, 0], [0, 2]).iou() == {"sky": 0.5}


def test_pictures_add_up() -> None:
    rng = np.random.default_rng(3)
    truth, predicted = rng.integers(0, 3, (4, 20)), rng.integers(0, 4, (4, 20))
    parts = Confusion.empty(LABELS)
    for one_truth, one_predicted in zip(truth, predicted, strict=True):
        parts += Confusion.of(LABELS, one_truth, one_predicted)
    np.testing.assert_array_equal(parts.counts, Confusion.of(LABELS, truth, predicted).counts)


@pytest.mark.parametrize("seed", range(5))
def test_iou_is_intersection_over_union_of_the_class_masks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, 2, IGNORE], (30, 40)).astype(np.uint8)
    predicted = rng.integers(0, 4, (30, 40)).astype(np.uint8)
    known = truth != IGNORE
    expected = {
        label: np.sum((truth == i) & (predicted == i)) / np.sum(((truth == i) | (predicted == i)) & known)
        for i, label in enumerate(LABELS)
    }
    assert Confusion.of(LABELS, truth, predicted).iou() == pytest.approx(expected)


def test_mean_iou_agrees_with_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("torchmetrics.classification")
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, IGNORE], (30, 40))
    predicted = np.where(rng.random((30, 40)) < 0.6, truth, rng.integers(0, 3, (30, 40)))
    predicted[truth == IGNORE] = 0
    theirs = classification.MulticlassJaccardIndex(3, ignore_index=IGNORE)
    theirs.update(torch.from_numpy(predicted), torch.from_numpy(truth))
    assert Confusion.of(LABELS, truth, predicted).mean_iou() == pytest.approx(float(theirs.compute()))


def test_nothing_counted_is_not_a_number() -> None:
    nothing = counted([IGNORE], [0])
    assert np.isnan(nothing.mean_iou())
    assert np.isnan(nothing.accuracy())


def test_only_what_occurs_is_shown() -> None:
    shown = counted([0, 0], [2, NONE]).occurring()
    assert shown.labels == ("sky", "car")
    assert shown.counts.tolist() == [[0, 1, 1], [0, 0, 0]]


def test_refuses_maps_of_different_size() -> None:
    with pytest.raises(ValueError, match=r"expected shape \(2,\), found \(3,\)"):
        counted([0, 0], [0, 0, 0])


def test_top_k() -> None:
    ranked = [["cat", "dog", "owl"], ["dog", "cat", "owl"], ["owl", "dog", "cat"], ["owl", "dog", "ant"]]
    truth = ["cat", "cat", "cat", "cat"]
    assert [top_k_accuracy(ranked, truth, k) for k in (1, 2, 3)] == [0.25, 0.5, 0.75]
    assert np.isnan(top_k_accuracy([], [], 1))
