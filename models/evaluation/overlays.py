"""Truth and answer drawn over a picture, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from perception import Panoptic
from perception import Segment as DrawnSegment
from perception.codecs import decode_rle

from models.datasets.sample import IGNORE_LABEL, VOID_ID, Category, DatasetError, Sample
from models.evaluation.average_precision import CocoObject

Picture = NDArray[np.uint8]
"""RGB, uint8 [H, W, 3]."""

Colour = tuple[int, int, int]

_OPACITY = 0.55
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.42
_CAPTION_HEIGHT = 22
_DEFAULT_COLOUR = (40, 200, 90)
_NO_CLASS_COLOUR = (0, 0, 0)


def side_by_side(truth: Picture, answer: Picture, caption: str) -> Picture:
    """The truth on the left, the answer on the right, under a line of text: RGB uint8 [H + 22, 2 W + 4, 3]."""
    gap = np.full((truth.shape[0], 4, 3), 255, np.uint8)
    pictures = np.concatenate((truth, gap, answer), axis=1)
    line = np.full((_CAPTION_HEIGHT, pictures.shape[1], 3), 255, np.uint8)
    cv2.putText(line, f"truth | answer: {caption}", (4, 15), _FONT, _FONT_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate((line, pictures))


def truth_scene(sample: Sample, colours: Mapping[str, Colour]) -> Panoptic:
    """The truth in the form in which the system answers; its segments are numbered anew from 1.

    colours: of each category; its order gives the categories' ids. Raises `DatasetError` without a panoptic map.
    """
    if sample.panoptic is None:
        raise DatasetError(f"sample {sample.file_name!r}: expected a panoptic map, found none")
    category_ids = {name: position for position, name in enumerate(colours, start=1)}
    ids = np.array(sorted(segment.id for segment in sample.segments), np.int64)
    numbered = np.where(sample.panoptic > VOID_ID, np.searchsorted(ids, sample.panoptic) + 1, VOID_ID)
    return Panoptic(
        ids=numbered.astype(np.int32),
        segments=tuple(
            DrawnSegment(
                id=int(np.searchsorted(ids, segment.id)) + 1,
                category=segment.category,
                category_id=category_ids[segment.category],
                is_thing=segment.is_thing,
                score=1.0,
                box=segment.box,
                area=int(segment.area),
                color=colours[segment.category],
            )
            for segment in sample.segments
        ),
    )


def draw_objects(picture: Picture, objects: Sequence[CocoObject], colours: Mapping[str, Colour]) -> Picture:
    """RGB uint8 [H, W, 3] with boxes, labels, scores below 1, and masks where the objects have them."""
    drawn = picture.copy()
    for each in objects:
        if each.counts is not None:
            _tint(drawn, decode_rle(each.counts, *each.size), colours.get(each.label, _DEFAULT_COLOUR))
    for each in objects:
        colour = colours.get(each.label, _DEFAULT_COLOUR)
        x0, y0, x1, y1 = (round(edge) for edge in each.box)
        cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), colour, 2)
        score = f" {each.score:.2f}" if each.score < 1 else " (crowd)" if each.is_crowd else ""
        _label(drawn, each.label + score, x0, y0)
    return drawn


def draw_classes(picture: Picture, ids: NDArray[np.uint8], categories: Sequence[Category]) -> Picture:
    """RGB uint8 [H, W, 3] tinted by class; black where the class is none of the categories, bare where ignored.

    ids: uint8 [H, W], position in `categories`, their number for none of them, `IGNORE_LABEL` to leave a pixel bare.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(categories)] = [category.colour for category in categories]
    colours[len(categories) : IGNORE_LABEL] = _NO_CLASS_COLOUR
    mixed = picture * (1 - _OPACITY) + colours[ids] * _OPACITY
    return np.where((ids == IGNORE_LABEL)[..., None], picture, mixed).astype(np.uint8)


def _tint(picture: Picture, mask: NDArray[np.bool_], colour: Colour) -> None:
    picture[mask] = picture[mask] * (1 - _OPACITY) + np.array(colour) * _OPACITY


def _label(picture: Picture, text: str, x: int, y: int) -> None:
    (width, height), baseline = cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)
    x = max(0, min(x, picture.shape[1] - width))
    y = max(y, height + baseline)
    cv2.rectangle(picture, (x, y - height - baseline), (x + width, y), (0, 0, 0), -1)
    cv2.putText(picture, text, (x, y - baseline // 2 - 1), _FONT, _FONT_SCALE, (255, 255, 255), 1, cv2.LINE_AA)
