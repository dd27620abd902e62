"""Tracking accuracy, computed by the library `trackers`.

HOTA, DetA and AssA: Luiten et al., *HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking* (IJCV 2021).
IDF1: Ristani et al., *Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking* (ECCV Workshops
2016). Identity switches: Bernardin and Stiefelhagen, *Evaluating Multiple Object Tracking Performance* (EURASIP JIVP
2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from trackers.eval import (
    aggregate_clear_metrics,
    aggregate_hota_metrics,
    aggregate_identity_metrics,
    box_iou,
    compute_clear_metrics,
    compute_hota_metrics,
    compute_identity_metrics,
)

METRICS = ("HOTA", "DetA", "AssA", "IDF1")


@dataclass(frozen=True)
class Identified:
    """A thing in a frame. identity: unique in the frame, of any category. box: xyxy in pixels of the picture."""

    identity: int
    category: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class TrackedFrame:
    """The things that are in a frame, and those that were found there."""

    truth: tuple[Identified, ...]
    found: tuple[Identified, ...]

    def only(self, category: str) -> TrackedFrame:
        """The frame's things of one category."""
        return TrackedFrame(
            tuple(each for each in self.truth if each.category == category),
            tuple(each for each in self.found if each.category == category),
        )

    @property
    def overlaps(self) -> NDArray[np.float64]:
        """IoU of the boxes, float64 [true things, found things]; 0 for things of different categories."""
        if not self.truth or not self.found:
            return np.zeros((len(self.truth), len(self.found)))
        same = np.array([[true.category == found.category for found in self.found] for true in self.truth])
        return np.asarray(box_iou(_boxes(self.truth), _boxes(self.found)) * same, np.float64)


Film = Sequence[TrackedFrame]
"""The frames of one camera in their order; an identity means the same thing in all of them, and nothing elsewhere."""


@dataclass(frozen=True)
class TrackingAccuracy:
    """metrics: `METRICS`, 0..1, best 1; NaN where the truth is empty. switches: how often a true thing's id changed."""

    metrics: dict[str, float]
    switches: int


def tracking_accuracy(films: Sequence[Film]) -> TrackingAccuracy:
    """Compare found with true identities over whole films; all boxes of all films count alike.

    A thing is only ever matched with one of its own category, so each figure is that of all categories pooled. HOTA and
    its parts are means over IoU 0.05, 0.10, ... 0.95; IDF1 and identity switches are those at IoU 0.50.
    """
    compared = [_library_input(film) for film in films]
    hota = aggregate_hota_metrics([compute_hota_metrics(*each) for each in compared])
    identity = aggregate_identity_metrics([compute_identity_metrics(*each) for each in compared])
    clear = aggregate_clear_metrics([compute_clear_metrics(*each) for each in compared])
    occurring = any(frame.truth for film in films for frame in film)
    measured = {**hota, **identity}
    return TrackingAccuracy({name: measured[name] if occurring else float("nan") for name in METRICS}, clear["IDSW"])


def _library_input(
    film: Film,
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], list[NDArray[np.float64]]]:
    """True ids, found ids and overlaps of each frame."""
    return (
        [_identities(frame.truth) for frame in film],
        [_identities(frame.found) for frame in film],
        [frame.overlaps for frame in film],
    )


def _identities(things: Sequence[Identified]) -> NDArray[np.int64]:
    return np.array([each.identity for each in things], np.int64)


def _boxes(things: Sequence[Identified]) -> NDArray[np.float64]:
    return np.array([each.box for each in things], np.float64)
