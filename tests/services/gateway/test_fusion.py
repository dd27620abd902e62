from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from perception.types import ClassMap, Instances, Panoptic

from services.gateway.canvas import FusionOptions
from services.gateway.fusion import fuse, resize
from tests.services.gateway import fusion_scenes as scenes
from tests.services.gateway.fusion_scenes import TAXONOMY, permuted, unhurried
from tests.services.gateway.reference_fusion import category_map, claimants, claimed, reference_fuse

EVERYTHING = FusionOptions(stuff_minimum_fraction=0, stuff_minimum_pixels=1)


def one(label: str, box: list[float], score: float = 0.9, mask: np.ndarray | None = None) -> Instances:
    return Instances(
        boxes=np.array([box], np.float32),
        scores=np.array([score], np.float32),
        class_ids=np.zeros(1, np.int32),
        labels=(label,),
        masks=(np.full((1, 1), 255, np.uint8) if mask is None else mask,),
    )


def joined(*parts: Instances) -> Instances:
    return Instances(
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        class_ids=np.concatenate([part.class_ids for part in parts]),
        labels=sum((part.labels for part in parts), ()),
        masks=sum((part.masks for part in parts), ()),
    )


def filled(label: str, height: int = 10, width: int = 10, confidence: int | None = None) -> ClassMap:
    return ClassMap(
        np.full((height, width), scenes.SEMANTIC_LABELS.index(label), np.uint8),
        scenes.SEMANTIC_LABELS,
        None if confidence is None else np.full((height, width), confidence, np.uint8),
    )


def assert_same(actual: Panoptic, expected: Panoptic) -> None:
    np.testing.assert_array_equal(actual.ids, expected.ids)
    assert len(actual.segments) == len(expected.segments)
    for mine, theirs in zip(actual.segments, expected.segments, strict=True):
        assert mine.score == pytest.approx(theirs.score)
        assert mine.box == pytest.approx(theirs.box)
        assert replace(mine, score=0, box=(0, 0, 0, 0)) == replace(theirs, score=0, box=(0, 0, 0, 0))


# Against the plain loop, and the properties one by one.


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, scenes.options)
def test_equals_the_plain_loop(instances, class_map, image_size, options):
    expected = reference_fuse(instances, class_map, TAXONOMY, image_size, options)
    assert_same(fuse(instances, class_map, TAXONOMY, image_size, options), expected)


@pytest.mark.parametrize("weight", [0.0, 0.25])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_plain_loop_on_larger_maps(weight, seed):
    random = np.random.default_rng(seed)
    count, height, width, image_size = 60, 135, 240, (1080, 1920)
    corners = random.uniform(-100, 1900, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 600, (count, 2))], axis=1).astype(np.float32)
    labels = tuple(random.choice(scenes.INSTANCE_LABELS, count).tolist())
    instances = Instances(
        boxes=boxes,
        scores=random.uniform(0.3, 1, count).astype(np.float32),
        class_ids=np.zeros(count, np.int32),
        labels=labels,
        masks=tuple(random.integers(0, 256, (28, 28), dtype=np.uint8) for _ in range(count)),
    )
    ids = np.repeat(np.repeat(random.integers(0, 7, (9, 16), dtype=np.uint8), 15, axis=0), 15, axis=1)
    class_map = ClassMap(ids, scenes.SEMANTIC_LABELS, random.integers(0, 256, (height, width), dtype=np.uint8))
    options = FusionOptions(semantic_weight=weight)
    actual = fuse(instances, class_map, TAXONOMY, image_size, options)
    assert sum(segment.is_thing for segment in actual.segments) > 5
    assert_same(actual, reference_fuse(instances, class_map, TAXONOMY, image_size, options))


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, scenes.options)
def test_segments_describe_the_map(instances, class_map, image_size, options):
    scene = fuse(instances, class_map, TAXONOMY, image_size, options)
    Panoptic(scene.ids, scene.segments)  # is refused where the two do not fit
    assert scene.ids.shape == class_map.ids.shape
    assert [segment.id for segment in scene.segments] == list(range(1, len(scene.segments) + 1))
    assert len(scene.segments) <= options.max_segments
    assert sum(segment.area for segment in scene.segments) == np.count_nonzero(scene.ids)
    things = [segment for segment in scene.segments if segment.is_thing]
    stuff = [segment for segment in scene.segments if not segment.is_thing]
    assert scene.segments == (*things, *stuff)
    assert [segment.score for segment in things] == sorted((segment.score for segment in things), reverse=True)
    assert [segment.category_id for segment in stuff] == sorted({segment.category_id for segment in stuff})
    for segment in scene.segments:
        assert segment.area == np.count_nonzero(scene.ids == segment.id)
        assert segment.category == TAXONOMY.category(segment.category_id).name


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, scenes.options)
def test_no_segment_is_under_a_threshold(instances, class_map, image_size, options):
    scene = fuse(instances, class_map, TAXONOMY, image_size, options)
    for segment in scene.segments:
        if segment.is_thing:
            assert segment.score >= options.score_threshold
        else:
            assert segment.area >= options.stuff_minimum_pixels
            assert segment.area >= options.stuff_minimum_fraction * scene.ids.size


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, scenes.options, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(instances, class_map, image_size, options, random):
    order = list(range(len(instances)))
    random.shuffle(order)
    assert_same(
        fuse(permuted(instances, order), class_map, TAXONOMY, image_size, options),
        fuse(instances, class_map, TAXONOMY, image_size, options),
    )


def test_equal_scores_and_boxes_are_ordered_by_their_masks():
    left = one("car", [0, 0, 10, 10], mask=np.array([[255, 255, 0]], np.uint8))
    right = one("car", [0, 0, 10, 10], mask=np.array([[0, 255, 255]], np.uint8))
    arguments = (ClassMap.empty(10, 10), TAXONOMY, (10, 10), EVERYTHING)
    assert_same(fuse(joined(right, left), *arguments), fuse(joined(left, right), *arguments))


@unhurried
@given(scenes.instances(maximum=1), scenes.class_maps(), scenes.image_sizes, scenes.options)
def test_things_stay_inside_their_boxes(instances, class_map, image_size, options):
    scene = fuse(instances, class_map, TAXONOMY, image_size, options)
    rows, columns = np.nonzero(scene.ids == 1)
    if scene.segments and scene.segments[0].is_thing:
        height, width = scene.ids.shape
        x = (columns + 0.5) * image_size[1] / width
        y = (rows + 0.5) * image_size[0] / height
        x_min, y_min, x_max, y_max = instances.boxes[0].astype(np.float64)
        slack = 1e-9
        assert (x_min - slack <= x).all()
        assert (x <= x_max + slack).all()
        assert (y_min - slack <= y).all()
        assert (y <= y_max + slack).all()


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, scenes.options)
def test_void_is_only_where_nothing_claims_a_pixel(instances, class_map, image_size, options):
    options = replace(options, max_segments=65535)
    scene = fuse(instances, class_map, TAXONOMY, image_size, options)
    void = scene.ids == 0
    categories = category_map(class_map, TAXONOMY)
    for segment in scene.segments:
        if not segment.is_thing:
            assert not (void & (categories == segment.category_id)).any()
    for category_id, category in enumerate(TAXONOMY.categories, 1):
        free = np.count_nonzero(void & (categories == category_id))
        if not category.is_thing:
            assert free < max(options.stuff_minimum_fraction * void.size, options.stuff_minimum_pixels)
    if options.overlap_threshold == 0:  # Every mask is accepted.
        scale = np.array([void.shape[1] / image_size[1], void.shape[0] / image_size[0]] * 2)
        for index in claimants(instances, TAXONOMY, options):
            mask = claimed(instances, index, class_map, TAXONOMY, scale, options.semantic_weight)
            assert not (void & mask).any()


@unhurried
@given(scenes.class_maps(), scenes.image_sizes, scenes.options)
def test_without_instances_there_is_only_stuff(class_map, image_size, options):
    scene = fuse(Instances.empty(), class_map, TAXONOMY, image_size, options)
    assert not any(segment.is_thing for segment in scene.segments)


@unhurried
@given(scenes.instances(), scenes.sizes, scenes.image_sizes, scenes.options)
def test_without_a_class_map_there_are_only_things(instances, size, image_size, options):
    scene = fuse(instances, ClassMap.empty(*size), TAXONOMY, image_size, options)
    assert all(segment.is_thing for segment in scene.segments)


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, scenes.options)
def test_is_pure(instances, class_map, image_size, options):
    before = (class_map.ids.copy(), instances.boxes.copy(), [mask.copy() for mask in instances.masks])
    first = fuse(instances, class_map, TAXONOMY, image_size, options)
    assert_same(fuse(instances, class_map, TAXONOMY, image_size, options), first)
    np.testing.assert_array_equal(class_map.ids, before[0])
    np.testing.assert_array_equal(instances.boxes, before[1])
    for mask, mask_before in zip(instances.masks, before[2], strict=True):
        np.testing.assert_array_equal(mask, mask_before)


# Single cases, by hand.


def test_the_better_instance_takes_the_overlap_and_the_worse_one_needs_half_of_its_mask():
    better, worse = one("car", [0, 0, 6, 10], 0.9), one("person", [4, 0, 10, 10], 0.8)
    scene = fuse(joined(worse, better), ClassMap.empty(10, 10), TAXONOMY, (10, 10))
    assert [(s.category, s.area, s.box) for s in scene.segments] == [
        ("car", 60, (0, 0, 6, 10)),
        ("person", 40, (6, 0, 10, 10)),
    ]
    mostly_hidden = one("person", [2, 0, 9, 10], 0.8)  # 30 of its 70 pixels are free
    scene = fuse(joined(mostly_hidden, better), ClassMap.empty(10, 10), TAXONOMY, (10, 10))
    assert [s.category for s in scene.segments] == ["car"]


def test_boxes_are_in_picture_pixels_and_areas_in_map_pixels():
    scene = fuse(one("car", [40, 20, 80, 60]), filled("road", 10, 20), TAXONOMY, (100, 200), EVERYTHING)
    assert [(s.category, s.area, s.box) for s in scene.segments] == [
        ("car", 16, (40, 20, 80, 60)),
        ("road", 184, (0, 0, 200, 100)),
    ]


@pytest.mark.parametrize(
    ("mask", "label", "confidence", "weight", "claims"),
    [
        (100, "car", 255, 0.0, False),  # the paper's rule: less than one half
        (100, "car", 255, 0.25, True),  # the map names the same category
        (100, "car", 80, 0.25, False),  # ... but is not certain enough
        (160, "road", 255, 0.25, False),  # the map names another one
        (160, "road", 80, 0.25, True),  # ... but is not certain enough
        (160, "wall", 255, 0.5, True),  # a label that no category claims says nothing
        (255, "road", 255, 0.5, True),  # a certain mask is never overruled
        (0, "car", 255, 0.5, False),  # nor is a certain absence
    ],
)
def test_the_class_map_has_a_say(mask, label, confidence, weight, claims):
    instance = one("car", [2, 2, 8, 8], mask=np.full((1, 1), mask, np.uint8))
    options = replace(EVERYTHING, semantic_weight=weight)
    scene = fuse(instance, filled(label, confidence=confidence), TAXONOMY, (10, 10), options)
    assert any(segment.is_thing for segment in scene.segments) == claims


def test_a_semantic_model_without_the_category_has_no_say():
    dog = one("dog", [2, 2, 8, 8], mask=np.full((1, 1), 130, np.uint8))
    scene = fuse(dog, filled("road"), TAXONOMY, (10, 10), replace(EVERYTHING, semantic_weight=0.5))
    assert [segment.category for segment in scene.segments] == ["dog", "road"]


def test_unclaimed_pixels_of_things_are_void():
    assert fuse(Instances.empty(), filled("car"), TAXONOMY, (10, 10), EVERYTHING).segments == ()


def test_labels_of_one_category_are_one_stuff_segment_and_its_score_is_the_mean_confidence():
    ids = np.zeros((10, 10), np.uint8)
    ids[5:] = scenes.SEMANTIC_LABELS.index("lane")
    confidence = np.full((10, 10), 255, np.uint8)
    confidence[5:] = 51
    scene = fuse(Instances.empty(), ClassMap(ids, scenes.SEMANTIC_LABELS, confidence), TAXONOMY, (10, 10))
    (road,) = scene.segments
    assert (road.category, road.area, road.score) == ("road", 100, pytest.approx(0.6))
    without = fuse(Instances.empty(), ClassMap(ids, scenes.SEMANTIC_LABELS), TAXONOMY, (10, 10))
    assert without.segments[0].score == 1.0


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ([0, 0, np.nan, 5], 0.9),
        ([0, 0, np.inf, 5], 0.9),
        ([0, 0, 5, 5], np.nan),
        ([0, 0, 5, 5], np.inf),
        ([5, 5, 5, 9], 0.9),  # no width
        ([8, 8, 2, 2], 0.9),  # inside out
        ([50, 50, 60, 60], 0.9),  # outside
        ([2.1, 2.1, 2.2, 2.2], 0.9),  # between pixel centres
    ],
)
def test_objects_that_cover_nothing_are_left_out(box, score):
    scene = fuse(one("car", box, score), filled("road"), TAXONOMY, (10, 10), EVERYTHING)
    assert [segment.category for segment in scene.segments] == ["road"]


def test_huge_boxes_cover_the_map():
    scene = fuse(one("dog", [-1e30, -1e30, 1e30, 1e30]), filled("road"), TAXONOMY, (10, 10), EVERYTHING)
    assert [(segment.category, segment.area) for segment in scene.segments] == [("dog", 100)]


def test_of_too_many_segments_the_best_things_are_kept():
    row = joined(*(one("car", [x, 0, x + 1, 10], score=0.5 + x / 100) for x in range(8)))
    scene = fuse(row, filled("road"), TAXONOMY, (10, 10), replace(EVERYTHING, max_segments=3))
    assert [segment.score for segment in scene.segments] == pytest.approx([0.57, 0.56, 0.55])
    assert scene.segments[0].box == (7, 0, 8, 10)
    assert scene.left_out == 6, "five cars, and the road beside them"


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, scenes.options)
def test_what_a_limit_leaves_out_is_told(instances, class_map, image_size, options):
    limited = fuse(instances, class_map, TAXONOMY, image_size, options)
    whole = fuse(instances, class_map, TAXONOMY, image_size, replace(options, max_segments=65535))
    assert limited.left_out == len(whole.segments) - len(limited.segments)
    assert limited.segments == whole.segments[: options.max_segments]
    assert resize(limited, 3, 4).left_out == limited.left_out


@pytest.mark.parametrize(("map_size", "image_size"), [((0, 5), (10, 10)), ((5, 5), (0, 10))])
def test_maps_and_pictures_without_pixels_are_refused(map_size, image_size):
    with pytest.raises(ValueError, match="expected a class map and a picture with pixels"):
        fuse(Instances.empty(), ClassMap.empty(*map_size), TAXONOMY, image_size)


@pytest.mark.parametrize(
    "wrong",
    [{"score_threshold": 1.1}, {"semantic_weight": 0.6}, {"max_segments": 65536}, {"overlap_threshold": float("nan")}],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=f"FusionOptions.{next(iter(wrong))}: expected"):
        FusionOptions(**wrong)


# Another grid.


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_enlarging_keeps_every_segment(instances, class_map, image_size, more):
    scene = fuse(instances, class_map, TAXONOMY, image_size, EVERYTHING)
    height, width = (side + extra for side, extra in zip(scene.ids.shape, more, strict=True))
    larger = resize(scene, height, width)
    assert larger.ids.shape == (height, width)
    assert [s.id for s in larger.segments] == [s.id for s in scene.segments]
    for segment in larger.segments:
        assert segment.area == np.count_nonzero(larger.ids == segment.id)


@unhurried
@given(scenes.instances(), scenes.class_maps(), scenes.image_sizes, scenes.sizes)
def test_resizing_takes_the_nearest_pixel_and_drops_what_vanishes(instances, class_map, image_size, size):
    scene = fuse(instances, class_map, TAXONOMY, image_size, EVERYTHING)
    resized = resize(scene, *size)
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(int) for new, old in zip(size, scene.ids.shape, strict=True)
    )
    present = set(np.unique(resized.ids).tolist()) - {0}
    assert [s.id for s in resized.segments] == [s.id for s in scene.segments if s.id in present]
    assert [s.area for s in resized.segments] == [np.count_nonzero(resized.ids == s.id) for s in resized.segments]
    # Where a centre falls exactly between two pixels either is nearest.
    ties = [
        np.isclose((np.arange(new) + 0.5) * (old / new) % 1, 0)
        | np.isclose((np.arange(new) + 0.5) * (old / new) % 1, 1)
        for new, old in zip(size, scene.ids.shape, strict=True)
    ]
    clear = ~(ties[0][:, None] | ties[1])
    np.testing.assert_array_equal(resized.ids[clear], scene.ids[np.ix_(rows, columns)][clear])


def test_resizing_by_two():
    scene = fuse(one("car", [0, 0, 5, 5]), filled("road"), TAXONOMY, (10, 10), EVERYTHING)
    twice = resize(scene, 20, 20)
    np.testing.assert_array_equal(twice.ids, np.repeat(np.repeat(scene.ids, 2, axis=0), 2, axis=1))
    assert [s.area for s in twice.segments] == [100, 300]
    assert [s.box for s in twice.segments] == [s.box for s in scene.segments]


def test_a_size_without_pixels_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0 x 5"):
        resize(Panoptic.empty(4, 4), 0, 5)
