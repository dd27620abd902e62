"""The loop of the original method, Kirillov et al., *Panoptic Segmentation* (CVPR 2019), in the forms it is found in.

`combine` goes the way of detectron2's `combine_semantic_and_instance_outputs` (whole maps, every area counted anew) in
NumPy; `workers/kirillov_torch.py` goes it in PyTorch, as detectron2 does. `combine_runs` goes the way of panopticapi's
`combine_semantic_and_instance_predictions.py`: areas and overlaps by pycocotools on run lengths, pixels on whole maps.
All give the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

RunLengths = dict[str, Any]
"""A mask as pycocotools has it."""


@dataclass(frozen=True)
class Thresholds:
    """score: instances below it are left out. overlap: one is dropped when more than this part of it is taken.
    stuff_pixels: stuff with fewer is void.
    """

    score: float
    overlap: float
    stuff_pixels: float


@dataclass(frozen=True)
class Found:
    """A segment of the loop's answer. category_id: an instance's own, or that of the stuff."""

    id: int
    category_id: int
    area: int


def combine(
    masks: NDArray[np.bool_],
    scores: NDArray[np.float32],
    category_ids: NDArray[np.int64],
    semantic: NDArray[np.uint8],
    thresholds: Thresholds,
) -> tuple[NDArray[np.int32], list[Found]]:
    """Instances and a semantic map become one panoptic map, int32 [H, W], and its segments.

    masks: bool [N, H, W]. scores: float32 [N]. category_ids: int64 [N]. semantic: category ids of stuff uint8 [H, W],
    0 where there is a thing.
    """
    panoptic = np.zeros(semantic.shape, np.int32)
    segments: list[Found] = []
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] < thresholds.score:
            break
        mask = masks[index]
        mask_area = mask.sum()
        if mask_area == 0:
            continue
        taken = (mask & (panoptic > 0)).sum()
        if taken / mask_area > thresholds.overlap:
            continue
        if taken > 0:
            mask = mask & (panoptic == 0)
        panoptic[mask] = len(segments) + 1
        segments.append(Found(len(segments) + 1, int(category_ids[index]), int(mask_area - taken)))
    for category_id in np.unique(semantic):
        if category_id == 0:
            continue
        mask = (semantic == category_id) & (panoptic == 0)
        area = mask.sum()
        if area < thresholds.stuff_pixels:
            continue
        panoptic[mask] = len(segments) + 1
        segments.append(Found(len(segments) + 1, int(category_id), int(area)))
    return panoptic, segments


def combine_runs(
    instances: Sequence[RunLengths],
    scores: NDArray[np.float32],
    category_ids: NDArray[np.int64],
    stuff: Sequence[tuple[int, RunLengths]],
    shape: tuple[int, int],
    thresholds: Thresholds,
) -> tuple[NDArray[np.int32], list[Found]]:
    """As `combine`, of run lengths: one mask for each instance, and one with its category id for each kind of stuff."""
    panoptic = np.zeros(shape, np.int32)
    segments: list[Found] = []
    used: RunLengths | None = None
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] < thresholds.score:
            break
        runs = instances[index]
        area = coco.area(runs)
        if area == 0:
            continue
        taken = 0 if used is None else coco.area(coco.merge([used, runs], intersect=True))
        if taken / area > thresholds.overlap:
            continue
        used = runs if used is None else coco.merge([used, runs], intersect=False)
        mask = coco.decode(runs) == 1
        if taken:
            mask = np.logical_and(panoptic == 0, mask)
        panoptic[mask] = len(segments) + 1
        segments.append(Found(len(segments) + 1, int(category_ids[index]), int(area - taken)))
    for category_id, runs in stuff:
        mask = np.logical_and(panoptic == 0, coco.decode(runs) == 1)
        area = mask.sum()
        if area < thresholds.stuff_pixels:
            continue
        panoptic[mask] = len(segments) + 1
        segments.append(Found(len(segments) + 1, category_id, int(area)))
    return panoptic, segments
