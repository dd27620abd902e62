"""Between the API's messages and this package's values. Malformed messages raise `ValueError` with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from perception import codecs
from perception.types import Attribute, ClassMap, Detections, Instances, Panoptic, Segment, Track
from perception.v1 import (
    detection_pb2,
    geometry_pb2,
    image_pb2,
    instance_segmentation_pb2,
    perception_pb2,
    semantic_segmentation_pb2,
)

ImageLike = str | Path | bytes | NDArray[np.uint8]
"""A picture: the path of an encoded file, its bytes, or RGB uint8 [H, W, 3]."""

MAX_SEGMENT_ID = 65535
"""The map of a scene has 16 bits."""

_Object = detection_pb2.Detection | instance_segmentation_pb2.Instance


def image_to_message(image: ImageLike) -> image_pb2.Image:
    """The message of a picture.

    Raises `ValueError` for an array that is not uint8 [H, W, 3] and `OSError` for a path that cannot be read.
    """
    if isinstance(image, (str, Path)):
        return image_pb2.Image(encoded=Path(image).read_bytes())
    if isinstance(image, bytes):
        return image_pb2.Image(encoded=image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected RGB uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    height, width = image.shape[:2]
    return image_pb2.Image(
        raw=image_pb2.RawImage(
            format=image_pb2.PIXEL_FORMAT_RGB8, height=height, width=width, data=np.ascontiguousarray(image).tobytes()
        )
    )


def box_to_message(box: Sequence[float] | NDArray[np.floating]) -> geometry_pb2.Box:
    """The message of an xyxy box."""
    return geometry_pb2.Box(x_min=box[0], y_min=box[1], x_max=box[2], y_max=box[3])


def box_from_message(box: geometry_pb2.Box) -> tuple[float, float, float, float]:
    """The xyxy box of a message."""
    return (box.x_min, box.y_min, box.x_max, box.y_max)


def detections_from_messages(messages: Sequence[_Object]) -> Detections:
    """The objects of an answer; of instances, everything but their masks."""
    class_ids = np.array([message.class_id for message in messages], np.int64)
    if (class_ids > np.iinfo(np.int32).max).any():
        raise ValueError(f"class_id: expected at most {np.iinfo(np.int32).max}, got {class_ids.max()}")
    return Detections(
        boxes=np.array([box_from_message(message.box) for message in messages], np.float32).reshape(-1, 4),
        scores=np.array([message.score for message in messages], np.float32),
        class_ids=class_ids.astype(np.int32),
        labels=tuple(message.label for message in messages),
    )


def instances_from_messages(messages: Sequence[instance_segmentation_pb2.Instance]) -> Instances:
    """The instances of an answer whose masks are relative to their boxes (`MASK_FORMAT_BOX`)."""
    objects = detections_from_messages(messages)
    return Instances(
        boxes=objects.boxes,
        scores=objects.scores,
        class_ids=objects.class_ids,
        labels=objects.labels,
        masks=tuple(box_mask_from_message(message.box_mask) for message in messages),
    )


def box_mask_from_message(mask: geometry_pb2.BoxMask) -> NDArray[np.uint8]:
    """A mask relative to its box, uint8 [M, M], probability times 255."""
    if mask.size == 0 or len(mask.probabilities) != mask.size**2:
        raise ValueError(f"box mask of {len(mask.probabilities)} bytes, expected {mask.size} x {mask.size}, at least 1")
    return np.frombuffer(mask.probabilities, np.uint8).reshape(mask.size, mask.size)


def class_map_from_message(message: semantic_segmentation_pb2.ClassMap) -> ClassMap:
    """The class map of an answer."""
    height, width = message.size.height, message.size.width
    confidence = message.confidence_png
    return ClassMap(
        ids=_uint8(codecs.decode_png(message.png, height, width)),
        labels=tuple(message.labels),
        confidence=_uint8(codecs.decode_png(confidence, height, width)) if confidence else None,
    )


def _uint8(image: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8:
        raise ValueError("PNG of 16 bits, expected 8")
    return np.asarray(image, np.uint8)


def panoptic_from_message(message: perception_pb2.Panoptic) -> Panoptic:
    """The scene of an answer whose map is a PNG or run lengths."""
    height, width = message.size.height, message.size.width
    if message.png:
        ids = codecs.decode_panoptic_png(message.png, height, width)
    else:
        codecs.check_size(height, width)
        ids = np.zeros((height, width), np.int32)
        for segment in message.segments:
            if segment.id > MAX_SEGMENT_ID:
                raise ValueError(f"segment id: expected at most {MAX_SEGMENT_ID}, got {segment.id}")
            ids[codecs.decode_rle(segment.rle.counts, height, width)] = segment.id
    segments = tuple(_segment(segment) for segment in message.segments)
    return Panoptic(ids=ids, segments=segments, left_out=message.left_out)


def _segment(message: perception_pb2.Segment) -> Segment:
    return Segment(
        id=message.id,
        category=message.category,
        category_id=message.category_id,
        is_thing=message.is_thing,
        score=message.score,
        box=box_from_message(message.box),
        area=message.area,
        attributes=tuple(Attribute(a.name, a.value, a.score) for a in message.attributes),
        color=color_from_integer(message.color),
        track=_track(message.track) if message.HasField("track") else None,
    )


def _track(message: perception_pb2.Track) -> Track:
    return Track(
        id=message.id,
        frames=message.frames,
        age=message.age_microseconds / 1e6,
        velocity=(message.velocity_x, message.velocity_y),
    )


def color_from_integer(color: int) -> tuple[int, int, int]:
    """(red, green, blue) of 0xRRGGBB."""
    return ((color >> 16) & 0xFF, (color >> 8) & 0xFF, color & 0xFF)


def color_to_integer(color: Sequence[int]) -> int:
    """0xRRGGBB of (red, green, blue)."""
    return (color[0] << 16) | (color[1] << 8) | color[2]
