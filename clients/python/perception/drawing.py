"""Drawing a scene over its picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from perception.convert import ImageLike
from perception.types import Panoptic, Segment

_FILL = 0.5
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def read_picture(image: ImageLike | None, image_size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture as displayed, RGB uint8 [H, W, 3]; black of `image_size` where there is none.

    Raises `ValueError` when the picture cannot be decoded.
    """
    if image is None:
        return np.zeros((*image_size, 3), np.uint8)
    if isinstance(image, np.ndarray):
        return image
    data = image if isinstance(image, bytes) else Path(image).read_bytes()
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if decoded is None:
        raise ValueError("the picture cannot be decoded")
    return np.asarray(decoded, np.uint8)


def write_picture(picture: NDArray[np.uint8], path: str | Path) -> None:
    """Writes RGB uint8 [H, W, 3] in the format of the path's suffix. Raises `ValueError` when that is not known."""
    try:
        encoded, data = cv2.imencode(Path(path).suffix or ".", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:
        encoded = False
    if not encoded:
        raise ValueError(f"{path}: no image format known by this suffix")
    Path(path).write_bytes(data.tobytes())


def draw_panoptic(picture: NDArray[np.uint8], panoptic: Panoptic) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] with every segment tinted and outlined, and things boxed and named.

    Stuff is tinted in its category's colour; things of one category differ by shade, so that neighbours can be told
    apart. A thing that is tracked bears its number and keeps its shade from frame to frame. The panoptic map may be of
    any size; it covers the picture.
    """
    height, width = picture.shape[:2]
    ids = panoptic.ids
    if ids.shape != (height, width):
        ids = cv2.resize(ids.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int32)
    tints = np.zeros((max((segment.id for segment in panoptic.segments), default=0) + 1, 3), np.float32)
    for segment in panoptic.segments:
        tints[segment.id] = _shade(segment)
    covered = (ids > 0)[..., None]
    overlay = np.where(covered, picture * (1 - _FILL) + tints[ids] * _FILL, picture).astype(np.uint8)
    overlay[_outlines(ids, panoptic)] = 255
    # Large things first, so that the names of small ones stay readable.
    for segment in sorted(panoptic.segments, key=lambda segment: -segment.area):
        _name(overlay, segment, ids)
    return overlay


def _shade(segment: Segment) -> NDArray[np.float32]:
    color = np.array(segment.color, np.float32)
    if not segment.is_thing:
        return color
    # Five shades from dark to light, by id.
    number = segment.track.id if segment.track else segment.id
    toward = 255.0 if number % 2 else 0.0
    return np.asarray(color + (toward - color) * (0.12 * (number % 5)), np.float32)


def _outlines(ids: NDArray[np.int32], panoptic: Panoptic) -> NDArray[np.bool_]:
    """Where a thing meets anything else, bool [H, W]; the ragged edges between stuff would hide the picture."""
    is_thing = np.zeros(max((segment.id for segment in panoptic.segments), default=0) + 1, np.bool_)
    is_thing[[segment.id for segment in panoptic.segments if segment.is_thing]] = True
    things = np.where(is_thing[ids], ids, 0)
    edges = np.zeros(ids.shape, np.bool_)
    edges[:, 1:] |= things[:, 1:] != things[:, :-1]
    edges[1:] |= things[1:] != things[:-1]
    return edges


def _name(overlay: NDArray[np.uint8], segment: Segment, ids: NDArray[np.int32]) -> None:
    height, width = overlay.shape[:2]
    scale = max(0.35, min(height, width) / 1400)
    words = [segment.category, *(attribute.value for attribute in segment.attributes)]
    if segment.track:
        words.insert(1, f"#{segment.track.id}")
    if segment.is_thing:
        x, y = round(segment.box[0]), round(segment.box[1])
        corner = (round(segment.box[2]), round(segment.box[3]))
        cv2.rectangle(overlay, (x, y), corner, tuple(int(value) for value in _shade(segment)), max(1, round(scale * 2)))
        words.append(f"{segment.score:.2f}")
    else:
        x, y = _middle(ids == segment.id)
    text = " ".join(words)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    x = int(np.clip(x, 0, max(0, width - text_width)))
    y = int(np.clip(y, text_height + baseline, height))
    cv2.rectangle(overlay, (x, y - text_height - baseline), (x + text_width, y), (0, 0, 0), -1)
    cv2.putText(overlay, text, (x, y - baseline // 2 - 1), _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """A point well inside the mask: where its distance to the edge is greatest."""
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)
    row, column = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return int(column) - 1, int(row) - 1
