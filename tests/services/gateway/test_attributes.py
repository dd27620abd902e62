from __future__ import annotations

import numpy as np
import pytest
from perception.types import Attribute, Panoptic, Segment
from perception.v1 import classification_pb2

from services.gateway.attributes import regions_to_classify, with_attributes
from services.gateway.taxonomy import Taxonomy

TAXONOMY = Taxonomy.model_validate(
    {
        "name": "parcels",
        "categories": [
            {"name": "box", "is_thing": True, "color": [1, 2, 3]},
            {"name": "hand", "is_thing": True, "color": [1, 2, 3]},
            {"name": "belt", "is_thing": False, "color": [1, 2, 3]},
        ],
        "attributes": [
            {"name": "condition", "categories": ["box"], "labels": ["intact", "damaged"], "minimum_score": 0.5},
            {"name": "material", "categories": ["box", "belt"], "minimum_score": 0.2},
        ],
    }
)


def scene(*categories: str) -> Panoptic:
    segments = tuple(
        Segment(id, category, 1, True, 0.9, (id - 1, 0, id, 1), 1) for id, category in enumerate(categories, 1)
    )
    return Panoptic(np.arange(1, len(categories) + 1, dtype=np.int32)[None], segments)


def classified(**scores: float) -> classification_pb2.Classification:
    return classification_pb2.Classification(
        classes=[classification_pb2.ClassScore(label=label, score=score) for label, score in scores.items()]
    )


def test_regions_are_the_segments_that_a_rule_names():
    assert [segment.id for segment in regions_to_classify(scene("hand", "box", "belt"), TAXONOMY)] == [2, 3]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"damaged": 0.75, "intact": 0.25}, {"condition": ("damaged", 0.75), "material": ("damaged", 0.75)}),
        # The likeliest of the labels that count, not the likeliest of all.
        ({"paper": 0.375, "intact": 0.5}, {"condition": ("intact", 0.5), "material": ("intact", 0.5)}),
        ({"paper": 0.625, "intact": 0.25}, {"material": ("paper", 0.625)}),  # too uncertain
        ({"intact": 0.5, "damaged": 0.5}, {"condition": ("damaged", 0.5), "material": ("damaged", 0.5)}),
        ({"intact": float("nan")}, {}),
        ({}, {}),
    ],
)
def test_rules_add_their_likeliest_label(scores, expected):
    panoptic = scene("box", "hand")
    described = with_attributes(panoptic, regions_to_classify(panoptic, TAXONOMY), [classified(**scores)], TAXONOMY)
    assert described.segments[0].attributes == tuple(Attribute(name, *found) for name, found in expected.items())
    assert described.segments[1] == panoptic.segments[1]
    np.testing.assert_array_equal(described.ids, panoptic.ids)


def test_a_rule_speaks_only_of_its_categories():
    panoptic = scene("box", "belt")
    answers = [classified(intact=0.75), classified(damaged=0.75)]
    described = with_attributes(panoptic, regions_to_classify(panoptic, TAXONOMY), answers, TAXONOMY)
    assert [[a.name for a in segment.attributes] for segment in described.segments] == [
        ["condition", "material"],
        ["material"],
    ]


def test_every_region_needs_its_classification():
    panoptic = scene("box")
    with pytest.raises(ValueError, match="one for each of 1 regions, got 2"):
        with_attributes(panoptic, panoptic.segments, [classified(), classified()], TAXONOMY)
