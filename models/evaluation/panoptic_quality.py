"""Panoptic quality of Kirillov et al., *Panoptic Segmentation* (CVPR 2019), section 4."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VOID_ID = 0
_NONE = -1


@dataclass(frozen=True, eq=False)
class Labelling:
    """A panoptic map and what its ids mean.

    ids: integers [H, W] below 2^31, 0 for void. categories: the category's index of every segment id. crowds: ids of
    segments of the truth that cover objects which cannot be told apart.
    """

    ids: NDArray[np.integer]
    categories: Mapping[int, int]
    crowds: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Tally:
    """What one picture, or many, add to the measure; every array is [C], one value a category.

    iou: float64, the sum over matched segments. true_positives, false_positives, false_negatives: int64.
    """

    iou: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    false_negatives: NDArray[np.int64]

    @classmethod
    def empty(cls, num_categories: int) -> Tally:
        """Nothing seen yet."""
        zeros = np.zeros(num_categories, np.int64)
        return cls(zeros.astype(np.float64), zeros, zeros, zeros)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.iou + other.iou,
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which categories have a segment in the truth or in the prediction, bool [C]; only these are averaged."""
        return (self.true_positives + self.false_positives + self.false_negatives) > 0

    @property
    def segmentation_quality(self) -> NDArray[np.float64]:
        """SQ: mean IoU of matched segments, float64 [C]; 0 where none matched."""
        return self.iou / np.maximum(self.true_positives, 1)

    @property
    def recognition_quality(self) -> NDArray[np.float64]:
        """RQ: the F1 score of finding segments, float64 [C]; 0 where there is nothing to find and nothing found."""
        segments = self.true_positives + (self.false_positives + self.false_negatives) / 2
        return self.true_positives / np.maximum(segments, 0.5)

    @property
    def panoptic_quality(self) -> NDArray[np.float64]:
        """PQ = SQ * RQ, float64 [C]."""
        return self.segmentation_quality * self.recognition_quality

    def mean(self, categories: Collection[int]) -> dict[str, float]:
        """PQ, SQ and RQ averaged over those of `categories` that were seen; empty where none was."""
        chosen = [index for index in categories if self.seen[index]]
        if not chosen:
            return {}
        return {
            "PQ": float(self.panoptic_quality[chosen].mean()),
            "SQ": float(self.segmentation_quality[chosen].mean()),
            "RQ": float(self.recognition_quality[chosen].mean()),
        }

    def pooled(self, categories: Collection[int]) -> float:
        """PQ of all segments of `categories` together, as if of one: how good a single picture is; 1 if it is empty."""
        chosen = list(categories)
        misses = (self.false_positives[chosen].sum() + self.false_negatives[chosen].sum()) / 2
        segments = self.true_positives[chosen].sum() + misses
        return float(self.iou[chosen].sum() / segments) if segments else 1.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """One picture compared.

    tally: what it adds to the measure. matches: id of the truth's segment to id of the prediction's that matches it.
    pixels: int64 [C + 1, C + 1], pixels by true and predicted category; the last index stands for none.
    """

    tally: Tally
    matches: dict[int, int]
    pixels: NDArray[np.int64]


def compare(truth: Labelling, prediction: Labelling, num_categories: int) -> Comparison:
    """Match the segments of one picture, and count.

    Two segments of one category match where their IoU is above one half; at most one pair can. Void pixels of the truth
    count for neither side; a predicted segment is no error where more than half of it is void or a crowd of its
    category; a crowd need not be found.

    Raises:
        ValueError: the maps differ in size, or hold an id that has no category.
    """
    if truth.ids.shape != prediction.ids.shape:
        raise ValueError(f"prediction: expected a map of {truth.ids.shape}, found {prediction.ids.shape}")
    true_ids, true_categories = _segments(truth)
    predicted_ids, predicted_categories = _segments(prediction)
    overlap = _overlap(truth.ids, true_ids, prediction.ids, predicted_ids)

    is_crowd = np.isin(true_ids, list(truth.crowds))
    same_category = (true_categories[:, None] == predicted_categories) & (true_categories[:, None] != _NONE)
    true_area, predicted_area = overlap.sum(axis=1), overlap.sum(axis=0)
    union = true_area[:, None] + predicted_area - overlap - overlap[0]
    matched = same_category & ~is_crowd[:, None] & (2 * overlap > union)
    rows, columns = np.nonzero(matched)

    crowded = np.where(same_category & is_crowd[:, None], overlap, 0).sum(axis=0)
    forgiven = 2 * (overlap[0] + crowded) > predicted_area
    missed = ~matched.any(axis=1) & ~is_crowd & (true_categories != _NONE)
    wrong = ~matched.any(axis=0) & ~forgiven & (predicted_categories != _NONE)

    def count(categories: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.bincount(categories, minlength=num_categories)

    matched_categories = true_categories[rows]
    iou = np.zeros(num_categories, np.float64)
    np.add.at(iou, matched_categories, overlap[rows, columns] / union[rows, columns])
    # The index of no category, -1, is the last row and the last column.
    pixels = np.zeros((num_categories + 1, num_categories + 1), np.int64)
    np.add.at(pixels, (true_categories[:, None], predicted_categories), overlap)
    return Comparison(
        tally=Tally(iou, count(matched_categories), count(predicted_categories[wrong]), count(true_categories[missed])),
        matches=dict(zip(true_ids[rows].tolist(), predicted_ids[columns].tolist(), strict=True)),
        pixels=pixels,
    )


def _segments(labelling: Labelling) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids in ascending order with void first, and the category of each; `_NONE` for void."""
    ids = np.array([VOID_ID, *sorted(labelling.categories)], np.int64)
    return ids, np.array([_NONE, *(labelling.categories[int(i)] for i in ids[1:])], np.int64)


def _overlap(
    true_map: NDArray[np.integer],
    true_ids: NDArray[np.int64],
    predicted_map: NDArray[np.integer],
    predicted_ids: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Shared pixels of every pair of segments, int64 [T, P]."""
    pairs, counts = np.unique(true_map.astype(np.int64) << 32 | predicted_map.astype(np.int64), return_counts=True)
    overlap = np.zeros((len(true_ids), len(predicted_ids)), np.int64)
    overlap[_positions(pairs >> 32, true_ids), _positions(pairs & 0xFFFFFFFF, predicted_ids)] = counts
    return overlap


def _positions(ids: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.intp]:
    positions = np.searchsorted(known, ids)
    if not np.array_equal(known[np.minimum(positions, len(known) - 1)], ids):
        raise ValueError(f"panoptic map: expected ids that have a category, found {np.setdiff1d(ids, known).tolist()}")
    return positions
