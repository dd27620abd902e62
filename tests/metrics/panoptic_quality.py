"""Panoptic quality, straight from Kirillov et al., *Panoptic Segmentation* (CVPR 2019), sections 4.1 and 4.2.

Independent of the project's own code on purpose: tests judge fusion by it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

VOID = 0


@dataclass(frozen=True)
class Labelled:
    """A panoptic map, integers [H, W], 0 void; the category of each segment id; ids of crowds (ground truth only)."""

    ids: NDArray[np.integer]
    categories: dict[int, str]
    crowds: frozenset[int] = frozenset()


@dataclass
class Tally:
    iou: float = 0.0
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    @property
    def quality(self) -> float:
        """PQ of one category: sum of IoU over matches / (TP + FP / 2 + FN / 2)."""
        return self.iou / (self.true_positives + self.false_positives / 2 + self.false_negatives / 2)


@dataclass
class PanopticQuality:
    """Collects pictures; `quality` is the mean of PQ over the categories that occur, 0..1."""

    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))

    def add(self, truth: Labelled, prediction: Labelled) -> None:
        truth_ids, truth_index = np.unique(truth.ids, return_inverse=True)
        prediction_ids, prediction_index = np.unique(prediction.ids, return_inverse=True)
        pairs = np.zeros((len(truth_ids), len(prediction_ids)), np.int64)
        np.add.at(pairs, (truth_index.ravel(), prediction_index.ravel()), 1)
        area_of_truth = dict(zip(truth_ids.tolist(), pairs.sum(axis=1).tolist(), strict=True))
        area_of_prediction = dict(zip(prediction_ids.tolist(), pairs.sum(axis=0).tolist(), strict=True))
        shared = {(int(truth_ids[t]), int(prediction_ids[p])): int(pairs[t, p]) for t, p in np.argwhere(pairs).tolist()}

        matched_truth, matched_prediction = set(), set()
        for (true, predicted), intersection in shared.items():
            if VOID in (true, predicted) or true in truth.crowds:
                continue
            if truth.categories[true] != prediction.categories[predicted]:
                continue
            # Void pixels of the truth are removed from the prediction.
            union = (
                area_of_truth[true] + area_of_prediction[predicted] - intersection - shared.get((VOID, predicted), 0)
            )
            if intersection / union > 0.5:
                tally = self.tallies[truth.categories[true]]
                tally.true_positives += 1
                tally.iou += intersection / union
                matched_truth.add(true)
                matched_prediction.add(predicted)

        for true, category in truth.categories.items():
            if true not in matched_truth and true not in truth.crowds:
                self.tallies[category].false_negatives += 1
        for predicted, category in prediction.categories.items():
            if predicted in matched_prediction:
                continue
            # An unmatched prediction that is mostly void or a crowd of its category is no false positive.
            ignored = shared.get((VOID, predicted), 0) + sum(
                shared.get((crowd, predicted), 0) for crowd in truth.crowds if truth.categories[crowd] == category
            )
            if ignored / area_of_prediction[predicted] <= 0.5:
                self.tallies[category].false_positives += 1

    @property
    def quality(self) -> float:
        return float(np.mean([tally.quality for tally in self.tallies.values()]))
