"""Random scenes for fusion: a small taxonomy and hypothesis strategies for everything that `fuse` takes."""

from __future__ import annotations

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from perception.types import ClassMap, Instances

from services.gateway.canvas import FusionOptions
from services.gateway.taxonomy import Taxonomy

TAXONOMY = Taxonomy.model_validate(
    {
        "name": "small",
        "categories": [
            {"name": "sky", "is_thing": False, "color": [1, 2, 3], "semantic_labels": ["Sky"]},
            {
                "name": "person",
                "is_thing": True,
                "color": [4, 5, 6],
                "instance_labels": ["person", "worker"],
                "semantic_labels": ["person", "rider"],
            },
            {
                "name": "car",
                "is_thing": True,
                "color": [7, 8, 9],
                "instance_labels": ["car"],
                "semantic_labels": ["car"],
            },
            {"name": "road", "is_thing": False, "color": [10, 11, 12], "semantic_labels": ["road", "lane"]},
            # No semantic model knows it.
            {"name": "dog", "is_thing": True, "color": [13, 14, 15], "instance_labels": ["dog"]},
        ],
        "attributes": [{"name": "colour", "categories": ["car"], "labels": ["red", "blue"], "minimum_score": 0.5}],
    }
)
unhurried = settings(deadline=None, derandomize=True)
"""The same examples in every run, and no time limit for one: the machine may be busy."""

INSTANCE_LABELS = ("person", "worker", "car", "dog", "kite")
SEMANTIC_LABELS = ("road", "Sky", "rider", "person", "car", "lane", "wall")

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
image_sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
# Few values, so that scores and pixels tie.
scores = st.sampled_from([0.0, 0.3, 0.5, 0.5000001, 0.75, 1.0])
edges = st.one_of(st.integers(-5, 65).map(float), st.floats(-5, 65, width=32))
levels = st.sampled_from([0, 60, 127, 128, 200, 255])

options = st.builds(
    FusionOptions,
    score_threshold=st.sampled_from([0.0, 0.3, 0.5]),
    overlap_threshold=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    stuff_minimum_fraction=st.sampled_from([0.0, 0.05, 0.3]),
    stuff_minimum_pixels=st.sampled_from([1, 16]),
    semantic_weight=st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    max_segments=st.sampled_from([1, 3, 65535]),
)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    return draw(arrays.arrays(np.uint8, shape, elements=levels, fill=st.just(255)))


@st.composite
def instances(draw: st.DrawFn, maximum: int = 8) -> Instances:
    labels = tuple(draw(st.lists(st.sampled_from(INSTANCE_LABELS), max_size=maximum)))
    count = len(labels)
    return Instances(
        boxes=draw(arrays.arrays(np.float32, (count, 4), elements=edges)),
        scores=draw(arrays.arrays(np.float32, count, elements=scores.map(np.float32))),
        class_ids=np.array([INSTANCE_LABELS.index(label) for label in labels], np.int32),
        labels=labels,
        masks=tuple(draw(masks()) for _ in range(count)),
    )


@st.composite
def class_maps(draw: st.DrawFn) -> ClassMap:
    shape = draw(sizes)
    labels = SEMANTIC_LABELS[: draw(st.integers(0, len(SEMANTIC_LABELS)))]
    # 200 is a value that no label stands for.
    values = st.sampled_from([*range(len(labels)), 200, 255])
    ids = draw(arrays.arrays(np.uint8, shape, elements=values))
    confidence = draw(st.none() | arrays.arrays(np.uint8, shape, elements=levels))
    return ClassMap(ids, labels, confidence)


def permuted(value: Instances, order: list[int]) -> Instances:
    """The same instances in another order."""
    return Instances(
        boxes=value.boxes[order],
        scores=value.scores[order],
        class_ids=value.class_ids[order],
        labels=tuple(value.labels[index] for index in order),
        masks=tuple(value.masks[index] for index in order),
    )
