import hashlib
import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from models.datasets.sample import IGNORE_LABEL, VOID_ID, Sample, mask_box
from models.datasets.scenes import CATEGORIES, PARCELS, TRAIN_IDS, WORLD_CATEGORIES, SceneDataset, SceneSequence
from models.datasets.scenes.world import SMALLEST_LABELLED, size_factor

SIZE = (320, 240)
SMALLEST = SMALLEST_LABELLED * size_factor(SIZE)

DIGEST_OF_FRAMES = """
import hashlib
from models.datasets.scenes import SceneSequence
digest = hashlib.sha256()
for world in ("street", "line"):
    sequence = SceneSequence(world, 11, 40, (320, 240))
    for index in {order}:
        sample = sequence[index]
        digest.update(sample.image.tobytes() + sample.panoptic.tobytes() + sample.semantic.tobytes())
        digest.update(repr(sample.segments).encode())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module", params=product(("street", "line"), (0, 1)), ids=lambda param: f"{param[0]}-{param[1]}")
def frames(request: pytest.FixtureRequest) -> list[Sample]:
    """Frames over six seconds of a sequence."""
    world, seed = request.param
    sequence = SceneSequence(world, seed, 150, SIZE)
    return [sequence[index] for index in range(0, 150, 15)]


def test_frames_are_the_same_in_every_process_whatever_its_hash_seed() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST_OF_FRAMES.format(order=(0, 7, 39))],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64


@pytest.mark.parametrize("world", ["street", "line"])
def test_a_frame_does_not_depend_on_the_frames_asked_for_before(world: str) -> None:
    forwards, backwards = SceneSequence(world, 5, 30, SIZE), SceneSequence(world, 5, 30, SIZE)
    first = {index: digest(forwards[index]) for index in (0, 12, 29)}
    second = {index: digest(backwards[index]) for index in (29, 12, 0)}
    assert first == second
    assert len(set(first.values())) == 3


def test_other_seeds_give_other_pictures() -> None:
    assert len({digest(SceneSequence("line", seed, 1, SIZE)[0]) for seed in range(4)}) == 4


def test_segments_are_exactly_what_the_panoptic_map_shows(frames: list[Sample]) -> None:
    for sample in frames:
        sample.check_pixels()
        for segment in sample.segments:
            mask = sample.mask(segment)
            assert segment.area == np.count_nonzero(mask)
            assert segment.box == mask_box(mask)


def test_the_semantic_map_agrees_with_the_panoptic_map(frames: list[Sample]) -> None:
    for sample in frames:
        assert sample.panoptic is not None
        assert sample.semantic is not None
        expected = np.full(sample.semantic.shape, IGNORE_LABEL, np.uint8)
        for segment in sample.segments:
            expected[sample.mask(segment)] = TRAIN_IDS[segment.category]
        np.testing.assert_array_equal(sample.semantic, expected)
        assert np.mean(sample.panoptic == VOID_ID) < 0.01


def test_things_are_large_enough_to_be_found_and_stuff_is_one_segment_a_category(frames: list[Sample]) -> None:
    for sample in frames:
        assert all(segment.area >= SMALLEST for segment in sample.things)
        stuff = [segment.category for segment in sample.segments if not segment.is_thing]
        assert len(set(stuff)) == len(stuff)


def test_an_object_keeps_its_identity(frames: list[Sample]) -> None:
    seen: dict[int, tuple[str, dict[str, str]]] = {}
    times_seen: dict[int, int] = {}
    for sample in frames:
        tracks = [segment.track_id for segment in sample.things]
        assert None not in tracks
        assert len(set(tracks)) == len(tracks)
        for segment in sample.things:
            assert segment.track_id is not None
            identity = (segment.category, dict(segment.attributes))
            assert seen.setdefault(segment.track_id, identity) == identity
            times_seen[segment.track_id] = times_seen.get(segment.track_id, 0) + 1
    assert max(times_seen.values()) > 1
    assert all(segment.track_id is None for sample in frames for segment in sample.segments if not segment.is_thing)


@pytest.mark.parametrize("world", ["street", "line"])
def test_things_move_a_little_from_frame_to_frame(world: str) -> None:
    sequence = SceneSequence(world, 3, 30, SIZE)
    before = {segment.track_id: segment.box for segment in sequence[10].things}
    shifts = [
        np.abs(np.subtract(segment.box, before[segment.track_id])).max()
        for segment in sequence[11].things
        if segment.track_id in before
    ]
    assert len(shifts) >= 3
    assert 0 < np.median(shifts) < 8


def test_parcels_and_only_parcels_are_intact_or_damaged(frames: list[Sample]) -> None:
    for segment in (segment for sample in frames for segment in sample.segments):
        if segment.category in PARCELS:
            assert segment.attributes["condition"] in {"intact", "damaged"}
        else:
            assert segment.attributes == {}


@pytest.mark.parametrize("world", ["street", "line"])
def test_every_category_of_a_world_appears_and_none_of_the_other(world: str) -> None:
    samples = [SceneSequence(world, seed, 60, SIZE)[30] for seed in range(14)]
    segments = [segment for sample in samples for segment in sample.segments]
    assert {segment.category for segment in segments} == set(WORLD_CATEGORIES[world])
    conditions = {(segment.category, segment.attributes["condition"]) for segment in segments if segment.attributes}
    assert conditions == (set(product(PARCELS, ("intact", "damaged"))) if world == "line" else set())


@pytest.mark.parametrize("world", ["street", "line"])
def test_a_scene_is_the_same_at_every_size(world: str) -> None:
    large, small = (SceneSequence(world, 4, 10, size)[5] for size in ((640, 480), (320, 240)))
    assert large.semantic is not None
    assert small.semantic is not None
    assert np.mean(large.semantic[::2, ::2] == small.semantic) > 0.95
    assert np.abs(large.image[::2, ::2].astype(int).mean() - small.image.mean()) < 1.5


def test_the_categories_list_stuff_first_and_their_order_is_the_train_id() -> None:
    assert [category.is_thing for category in CATEGORIES] == [False] * 10 + [True] * 10
    assert [TRAIN_IDS[category.name] for category in CATEGORIES] == list(range(20))
    assert len({category.colour for category in CATEGORIES}) == 20
    assert set(WORLD_CATEGORIES["street"]) | set(WORLD_CATEGORIES["line"]) == set(TRAIN_IDS)


def test_a_dataset_mixes_worlds_seed_by_seed() -> None:
    dataset = SceneDataset(range(100, 102), frames=2, size=SIZE, stride=5)
    samples = [dataset[index] for index in range(len(dataset))]
    assert [(sample.video, sample.frame_index) for sample in samples] == [
        ("street-000100", 0), ("street-000100", 5), ("line-000100", 0), ("line-000100", 5),
        ("street-000101", 0), ("street-000101", 5), ("line-000101", 0), ("line-000101", 5),
    ]  # fmt: skip
    assert [sample.image_id for sample in samples] == list(range(1, 9))
    assert dataset.categories == CATEGORIES
    assert digest(dataset[3]) == digest(samples[3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sea", 0, 1, SIZE), "one of .*line.*street.*, found 'sea'"),
        (("line", -1, 1, SIZE), "found seed -1"),
        (("line", 0, 0, SIZE), "length 0"),
        (("line", 0, 1, (640, 8)), r"size \(640, 8\)"),
    ],
)
def test_a_wrong_sequence_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneSequence(*arguments)


def test_indices_beyond_the_end_are_refused() -> None:
    with pytest.raises(IndexError, match="below 3, found 3"):
        SceneSequence("line", 0, 3, SIZE)[3]
    with pytest.raises(IndexError, match="from 0 to 1, found 2"):
        SceneDataset(range(1), size=SIZE)[2]
    with pytest.raises(ValueError, match="frames 0"):
        SceneDataset(range(1), frames=0)


def digest(sample: Sample) -> str:
    assert sample.panoptic is not None
    return hashlib.sha256(sample.image.tobytes() + sample.panoptic.tobytes()).hexdigest()
