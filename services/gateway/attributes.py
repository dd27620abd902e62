"""What classification adds to a scene: attributes of the segments that the taxonomy's rules name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from perception.types import Attribute, Panoptic, Segment
from perception.v1 import classification_pb2

from services.gateway.taxonomy import Taxonomy

ALL_LABELS = 2**32 - 1
"""More than any model has: the most that the request's field holds."""


def regions_to_classify(panoptic: Panoptic, taxonomy: Taxonomy) -> tuple[Segment, ...]:
    """The segments whose category an attribute rule names, in the scene's order; their boxes are what to crop."""
    named = {category for rule in taxonomy.attributes for category in rule.categories}
    return tuple(segment for segment in panoptic.segments if segment.category in named)


def labels_needed(taxonomy: Taxonomy) -> int:
    """How many labels of each region, best first, the rules need to be told: 1 unless one counts only some labels."""
    return 1 if all(rule.labels is None for rule in taxonomy.attributes) else ALL_LABELS


def with_attributes(
    panoptic: Panoptic,
    regions: Sequence[Segment],
    classifications: Sequence[classification_pb2.Classification],
    taxonomy: Taxonomy,
) -> Panoptic:
    """The scene with what classification found.

    regions: segments of the scene, as `regions_to_classify` gives them. classifications: one for each region, in the
    same order. Every rule that names a segment's category adds the most probable of the labels that count for it,
    unless that is less probable than the rule's `minimum_score`. Segments that are no region stay as they are.

    Raises `ValueError` when regions and classifications differ in number.
    """
    if len(regions) != len(classifications):
        raise ValueError(
            f"classifications: expected one for each of {len(regions)} regions, got {len(classifications)}"
        )
    found = {
        segment.id: tuple(_attributes(segment, classification, taxonomy))
        for segment, classification in zip(regions, classifications, strict=True)
    }
    return panoptic.with_segments(
        replace(segment, attributes=found.get(segment.id, segment.attributes)) for segment in panoptic.segments
    )


def _attributes(
    segment: Segment, classification: classification_pb2.Classification, taxonomy: Taxonomy
) -> Iterator[Attribute]:
    for rule in taxonomy.attributes:
        if segment.category in rule.categories:
            counting = (found for found in classification.classes if rule.labels is None or found.label in rule.labels)
            # Of equally probable labels the first by name, so that the order of the input does not matter.
            best = min(counting, key=lambda found: (-found.score, found.label), default=None)
            if best is not None and best.score >= rule.minimum_score:
                yield Attribute(name=rule.name, value=best.label, score=best.score)
