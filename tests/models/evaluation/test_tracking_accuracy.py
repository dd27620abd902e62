from __future__ import annotations

from math import isnan, nan, sqrt

import numpy as np
import pytest

from models.evaluation.timeline import MISSED, UNSEEN, timeline
from models.evaluation.tracking_accuracy import Identified, TrackedFrame, tracking_accuracy

FRAMES = 10


def car(identity: int, frame: int, category: str = "car") -> Identified:
    """A thing that moves to the right by a fifth of its width a frame; others are in rows of their own."""
    row = 100.0 * (identity % 10)
    return Identified(identity, category, (8.0 * frame, row, 8.0 * frame + 40, row + 30))


def named(thing: Identified, identity: int) -> Identified:
    return Identified(identity, thing.category, thing.box)


def truth(frame: int) -> tuple[Identified, ...]:
    return car(1, frame), car(2, frame)


def film(found: dict[int, tuple[Identified, ...]]) -> list[TrackedFrame]:
    """Two cars; what was found in each frame, the truth by other names where nothing is said of it."""
    right = {frame: tuple(named(thing, thing.identity + 10) for thing in truth(frame)) for frame in range(FRAMES)}
    return [TrackedFrame(truth(frame), (right | found)[frame]) for frame in range(FRAMES)]


def test_perfect_tracks() -> None:
    accuracy = tracking_accuracy([film({}), film({})])
    assert accuracy.metrics == {"HOTA": 1, "DetA": 1, "AssA": 1, "IDF1": 1}
    assert accuracy.switches == 0
    identities = timeline(film({})).identities
    assert identities.tolist() == [[11] * FRAMES, [12] * FRAMES]


def test_swapped_identities() -> None:
    swapped = film({frame: (named(car(1, frame), 12), named(car(2, frame), 11)) for frame in range(6, FRAMES)})
    accuracy = tracking_accuracy([swapped])
    # Each car is 6 of 10 times one track and 4 times the other: unions of 14 and of 16.
    association = (6 * 6 / 14 + 4 * 4 / 16) / 10
    assert accuracy.metrics == pytest.approx(
        {"HOTA": sqrt(association), "DetA": 1, "AssA": association, "IDF1": 12 / 20}
    )
    assert accuracy.switches == 2
    assert np.argwhere(timeline(swapped).switches).tolist() == [[0, 6], [1, 6]]
    assert timeline(swapped).frame_scores.tolist() == [1] * 6 + [0] * 4


def test_missed_frames() -> None:
    gaps = film({frame: (named(car(1, frame), 11),) for frame in (4, 5)})
    accuracy = tracking_accuracy([gaps])
    # The first car all 10 times, the second 8 of 10 times.
    association = (10 * 1 + 8 * 8 / 10) / 18
    assert accuracy.metrics["DetA"] == pytest.approx(18 / 20)
    assert accuracy.metrics["AssA"] == pytest.approx(association)
    assert accuracy.metrics["HOTA"] == pytest.approx(sqrt(18 / 20 * association))
    assert accuracy.metrics["IDF1"] == pytest.approx(2 * 18 / (20 + 18))
    assert accuracy.switches == 0
    assert timeline(gaps).identities[1].tolist() == [12] * 4 + [MISSED] * 2 + [12] * 4
    assert timeline(gaps).frame_scores.tolist() == [1] * 4 + [0.5] * 2 + [1] * 4


def test_a_thing_of_another_category_is_no_match() -> None:
    mistaken = film({frame: (car(1, frame, "pedestrian"), car(2, frame)) for frame in range(FRAMES)})
    accuracy = tracking_accuracy([mistaken])
    assert accuracy.metrics["DetA"] == pytest.approx(10 / 30)
    assert accuracy.metrics["AssA"] == 1
    assert accuracy.metrics["IDF1"] == pytest.approx(0.5)
    assert timeline(mistaken).identities.tolist() == [[MISSED] * FRAMES, [2] * FRAMES]
    only = [[frame.only(category) for frame in mistaken] for category in ("car", "pedestrian")]
    assert tracking_accuracy(only[:1]).metrics["IDF1"] == pytest.approx(2 * 10 / (20 + 10))
    assert isnan(tracking_accuracy(only[1:]).metrics["HOTA"])


def test_the_same_identities_in_two_films_are_not_the_same_things() -> None:
    one = [TrackedFrame((car(1, frame),), (named(car(1, frame), 7),)) for frame in range(FRAMES)]
    other = [TrackedFrame((car(2, frame),), (named(car(2, frame), 7),)) for frame in range(FRAMES)]
    assert tracking_accuracy([one, other]).metrics["IDF1"] == 1
    assert tracking_accuracy([one + other]).metrics["IDF1"] == 0.5


@pytest.mark.parametrize("frames", [[], [TrackedFrame((), ())], [TrackedFrame((), (car(1, 0),))]])
def test_nothing_to_measure(frames: list[TrackedFrame]) -> None:
    accuracy = tracking_accuracy([frames])
    assert accuracy.metrics == pytest.approx(dict.fromkeys(("HOTA", "DetA", "AssA", "IDF1"), nan), nan_ok=True)
    assert timeline(frames).frame_scores.tolist() == [1] * len(frames)


def test_nothing_found() -> None:
    accuracy = tracking_accuracy([film(dict.fromkeys(range(FRAMES), ()))])
    assert set(accuracy.metrics.values()) == {0}


def test_a_thing_is_not_in_the_picture_before_it_comes() -> None:
    late = [TrackedFrame((car(1, frame),) if frame else (), ()) for frame in range(3)]
    assert timeline(late).categories == ("car",)
    assert timeline(late).identities.tolist() == [[UNSEEN, MISSED, MISSED]]
    assert timeline(late).frame_scores.tolist() == [1, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_the_switches_of_the_timeline_are_those_that_the_library_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for frame in range(30):
        true = tuple(car(identity, frame) for identity in range(4) if rng.random() < 0.9)
        names = rng.permutation(4)
        moved = [np.add(thing.box, rng.uniform(-12, 12)) for thing in true]
        found = tuple(
            Identified(int(names[number]), "car", tuple(box.tolist()))
            for number, box in enumerate(moved)
            if rng.random() < 0.9
        )
        frames.append(TrackedFrame(true, found))
    assert timeline(frames).switches.sum() == tracking_accuracy([frames]).switches > 10
