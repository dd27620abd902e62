from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.panoptic_quality import Labelling, Tally, compare
from tests.metrics import panoptic_quality as independent

CAR, PERSON, ROAD = range(3)


def labelling(rows: list[str], categories: dict[int, int], crowds: frozenset[int] = frozenset()) -> Labelling:
    """A map drawn with digits; 0 is void."""
    return Labelling(np.array([[int(value) for value in row] for row in rows], np.int32), categories, crowds)


def random_labelling(rng: np.random.Generator, segments: int, num_categories: int) -> Labelling:
    """Rectangles over each other on void, with ids far apart as COCO has them."""
    ids = np.zeros((40, 50), np.int32)
    chosen = rng.choice(2**24 - 1, segments, replace=False) + 1
    for each in chosen:
        top, left = rng.integers(0, 35), rng.integers(0, 45)
        ids[top : top + rng.integers(4, 30), left : left + rng.integers(4, 30)] = each
    visible = np.setdiff1d(ids, [0]).tolist()
    return Labelling(ids, {each: int(rng.integers(num_categories)) for each in visible})


def disturbed(rng: np.random.Generator, truth: Labelling, num_categories: int) -> Labelling:
    """A prediction that is right in places: shifted, renumbered, some categories changed, some segments left out."""
    ids = np.roll(truth.ids, rng.integers(0, 3, 2), (0, 1))
    numbers = {each: number for number, each in enumerate(truth.categories, start=1) if rng.random() < 0.8}
    moved = np.zeros_like(ids)
    for each, number in numbers.items():
        moved[ids == each] = number
    kept = set(np.unique(moved).tolist())
    categories = {
        number: truth.categories[each] if rng.random() < 0.8 else int(rng.integers(num_categories))
        for each, number in numbers.items()
        if number in kept
    }
    return Labelling(moved, categories)


def test_one_match_one_miss_and_one_false_alarm() -> None:
    truth = labelling(["1122", "1122", "3333"], {1: CAR, 2: CAR, 3: ROAD})
    # Car 1 is found with 3 of 4 pixels, car 2 is not, the road is whole, and a person is made up.
    found = labelling(["5000", "5507", "3333"], {5: CAR, 7: PERSON, 3: ROAD})
    tally = compare(truth, found, 3).tally
    assert tally.true_positives.tolist() == [1, 0, 1]
    assert tally.false_negatives.tolist() == [1, 0, 0]
    assert tally.false_positives.tolist() == [0, 1, 0]
    np.testing.assert_allclose(tally.iou, [3 / 4, 0, 1])
    np.testing.assert_allclose(tally.panoptic_quality, [(3 / 4) / 1.5, 0, 1])
    np.testing.assert_allclose(tally.segmentation_quality, [3 / 4, 0, 1])
    np.testing.assert_allclose(tally.recognition_quality, [1 / 1.5, 0, 1])
    assert tally.mean([CAR, PERSON, ROAD]) == pytest.approx(
        {"PQ": (0.5 + 0 + 1) / 3, "SQ": (0.75 + 0 + 1) / 3, "RQ": (2 / 3 + 0 + 1) / 3}
    )
    assert tally.pooled([CAR, PERSON, ROAD]) == pytest.approx(1.75 / (2 + 0.5 + 0.5))


def test_an_iou_of_exactly_one_half_is_no_match() -> None:
    truth, found = labelling(["1100"], {1: CAR}), labelling(["1000"], {1: CAR})
    assert compare(truth, found, 1).tally.true_positives.tolist() == [0]


def test_categories_that_nobody_saw_are_not_averaged() -> None:
    tally = compare(labelling(["11"], {1: CAR}), labelling(["11"], {1: CAR}), 3).tally
    assert tally.mean([CAR, PERSON, ROAD]) == {"PQ": 1, "SQ": 1, "RQ": 1}
    assert tally.mean([PERSON]) == {}


def test_void_pixels_of_the_truth_count_for_neither_side() -> None:
    truth = labelling(["110000"], {1: CAR})
    # Without its three void pixels the found car is the true one; the second car is all void and no error.
    found = labelling(["111112"], {1: CAR, 2: CAR})
    tally = compare(truth, found, 1).tally
    assert (tally.true_positives[0], tally.false_positives[0], tally.iou[0]) == (1, 0, 1.0)


def test_a_crowd_need_not_be_found_and_forgives_its_own_category_only() -> None:
    truth = labelling(["111111"], {1: PERSON}, frozenset({1}))
    found = labelling(["222334"], {2: PERSON, 3: CAR, 4: PERSON})
    tally = compare(truth, found, 2).tally
    assert tally.false_negatives.tolist() == [0, 0]
    assert tally.false_positives.tolist() == [1, 0]
    assert tally.true_positives.tolist() == [0, 0]


def test_matches_and_pixels_of_a_picture() -> None:
    truth = labelling(["1120"], {1: CAR, 2: ROAD})
    found = labelling(["9980"], {9: CAR, 8: CAR})
    compared = compare(truth, found, 3)
    assert compared.matches == {1: 9}
    expected = np.zeros((4, 4), np.int64)
    expected[CAR, CAR], expected[ROAD, CAR], expected[-1, -1] = 2, 1, 1
    np.testing.assert_array_equal(compared.pixels, expected)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_an_independent_implementation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    total, reference = Tally.empty(4), independent.PanopticQuality()
    for _ in range(5):
        drawn = random_labelling(rng, 9, 4)
        crowds = frozenset(each for each in drawn.categories if rng.random() < 0.2)
        truth = Labelling(drawn.ids, drawn.categories, crowds)
        found = disturbed(rng, truth, 4)
        total += compare(truth, found, 4).tally
        names = [{i: str(c) for i, c in each.categories.items()} for each in (truth, found)]
        reference.add(independent.Labelled(truth.ids, names[0], crowds), independent.Labelled(found.ids, names[1]))
    for category, tally in reference.tallies.items():
        index = int(category)
        assert total.true_positives[index] == tally.true_positives
        assert total.false_positives[index] == tally.false_positives
        assert total.false_negatives[index] == tally.false_negatives
        assert total.iou[index] == pytest.approx(tally.iou)
    assert total.mean(range(4))["PQ"] == pytest.approx(reference.quality)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchmetrics(seed: int) -> None:
    """Without crowds and without void, which torchmetrics treats in its own way."""
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchmetrics.detection")
    rng = np.random.default_rng(seed)
    metric = detection.PanopticQuality(things={0, 1}, stuffs={2, 3}, return_sq_and_rq=True, return_per_class=True)
    total = Tally.empty(4)
    grid = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((10, 9), np.int32)).astype(np.int32)
    for _ in range(4):
        categories = {segment_id: int(rng.integers(4)) for segment_id in range(1, 13)}
        renamed = {each: category if rng.random() < 0.85 else 1 for each, category in categories.items()}
        moved = np.roll(grid, rng.integers(0, 4, 2), (0, 1))
        truth = _one_segment_of_each_stuff(Labelling(grid, categories))
        found = _one_segment_of_each_stuff(Labelling(moved, renamed))
        total += compare(truth, found, 4).tally
        metric.update(*(torch.from_numpy(_categories_and_ids(each))[None] for each in (found, truth)))
    theirs = metric.compute().numpy()
    present = total.seen
    # Theirs has a row for each category in the order of things, then stuff.
    np.testing.assert_allclose(total.panoptic_quality[present], theirs[present, 0], atol=1e-6)
    np.testing.assert_allclose(total.segmentation_quality[present], theirs[present, 1], atol=1e-6)
    np.testing.assert_allclose(total.recognition_quality[present], theirs[present, 2], atol=1e-6)


def _one_segment_of_each_stuff(labelling: Labelling) -> Labelling:
    ids, categories = labelling.ids.copy(), dict(labelling.categories)
    for stuff in (2, 3):
        members = [i for i, category in categories.items() if category == stuff]
        for member in members[1:]:
            ids[ids == member] = members[0]
            del categories[member]
    return Labelling(ids, categories)


def _categories_and_ids(labelling: Labelling) -> np.ndarray:
    table = np.zeros(int(labelling.ids.max()) + 1, np.int64)
    for segment_id, category in labelling.categories.items():
        table[segment_id] = category
    return np.stack((table[labelling.ids], labelling.ids), axis=-1)


@pytest.mark.parametrize(
    ("truth", "found", "message"),
    [
        (labelling(["11"], {1: CAR}), labelling(["111"], {1: CAR}), r"expected a map of \(1, 2\), found \(1, 3\)"),
        (labelling(["12"], {1: CAR}), labelling(["11"], {1: CAR}), r"ids that have a category, found \[2\]"),
        (labelling(["11"], {1: CAR}), labelling(["19"], {1: CAR}), r"ids that have a category, found \[9\]"),
    ],
)
def test_refuses_maps_that_do_not_fit(truth: Labelling, found: Labelling, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(truth, found, 3)
