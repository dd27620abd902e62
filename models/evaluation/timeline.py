"""Who each true thing of a film was taken for, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from models.evaluation.tracking_accuracy import TrackedFrame

MATCHING_IOU = 0.5
UNSEEN, MISSED = -2, -1


@dataclass(frozen=True, eq=False)
class Timeline:
    """The identities that a film's true things were given.

    categories: of each true thing, in the order of their appearance. identities: int64 [things, frames], the id of the
    found thing at a true thing's place, `MISSED` where nothing was found there, `UNSEEN` where the thing is not in the
    picture.
    """

    categories: tuple[str, ...]
    identities: NDArray[np.int64]

    @property
    def switches(self) -> NDArray[np.bool_]:
        """bool [things, frames]: where a thing has another id than when it was last found."""
        changes = np.zeros(self.identities.shape, np.bool_)
        for row, change in zip(self.identities, changes, strict=True):
            found = np.flatnonzero(row >= 0)
            change[found[1:]] = row[found[1:]] != row[found[:-1]]
        return changes

    @property
    def frame_scores(self) -> NDArray[np.float64]:
        """float64 [frames], 0..1: the share of the things in the picture that have the id that each has most often.

        1 where no thing is in the picture.
        """
        usual = np.array([_most_frequent(row[row >= 0]) for row in self.identities], np.int64)
        right = (self.identities == usual[:, None]).sum(axis=0)
        present = (self.identities != UNSEEN).sum(axis=0)
        return np.where(present, right / np.maximum(present, 1), 1.0)


@dataclass(frozen=True, eq=False)
class FilmTimelines:
    """One film's identities with the tracker, and those that its frames have without it."""

    name: str
    tracked: Timeline
    untracked: Timeline


def timeline(film: Sequence[TrackedFrame]) -> Timeline:
    """Match true and found things of the same category at IoU 0.50; a pair of the frame before is kept where it may be.

    That is the matching under which identity switches are counted.
    """
    rows: dict[int, int] = {}
    categories: list[str] = []
    for thing in (thing for frame in film for thing in frame.truth):
        if thing.identity not in rows:
            rows[thing.identity] = len(rows)
            categories.append(thing.category)
    identities = np.full((len(rows), len(film)), UNSEEN, np.int64)
    before: dict[int, int] = {}
    for number, frame in enumerate(film):
        matches = _matches(frame, before)
        for thing in frame.truth:
            identities[rows[thing.identity], number] = matches.get(thing.identity, MISSED)
        before = matches
    return Timeline(tuple(categories), identities)


def _matches(frame: TrackedFrame, before: dict[int, int]) -> dict[int, int]:
    """Found by true identity."""
    overlaps = frame.overlaps
    kept = np.array([[before.get(true.identity) == found.identity for found in frame.found] for true in frame.truth])
    # One pair that is kept outweighs any overlap of the others.
    worth = np.where(overlaps >= MATCHING_IOU, overlaps + 1000 * kept.reshape(overlaps.shape), 0.0)
    pairs = zip(*linear_sum_assignment(worth, maximize=True), strict=True)
    return {frame.truth[row].identity: frame.found[column].identity for row, column in pairs if worth[row, column] > 0}


def _most_frequent(values: NDArray[np.int64]) -> int:
    """The first of the most frequent values; of none, one that no found thing has."""
    if not values.size:
        return UNSEEN - 1
    distinct, counts = np.unique(values, return_counts=True)
    return int(distinct[counts.argmax()])
