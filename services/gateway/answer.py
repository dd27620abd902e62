"""The gateway's answer: domain values and task answers as messages, in the form that the caller asked for."""

from __future__ import annotations

from collections.abc import Sequence

from perception import codecs, convert
from perception.types import ClassMap, Panoptic, Segment
from perception.v1 import (
    detection_pb2,
    geometry_pb2,
    image_pb2,
    instance_segmentation_pb2,
    perception_pb2,
    semantic_segmentation_pb2,
)

from services.gateway.fusion import resize, segments_at


def panoptic_message(
    panoptic: Panoptic, form: perception_pb2.PanopticFormat, size: tuple[int, int]
) -> perception_pb2.Panoptic:
    """A scene as one PNG or with a run-length mask for each segment, on a map of that size (height, width)."""
    height, width = size
    grid = image_pb2.ImageSize(height=height, width=width)
    message = perception_pb2.Panoptic(size=grid, left_out=panoptic.left_out)
    if form == perception_pb2.PANOPTIC_FORMAT_RLE:
        panoptic = resize(panoptic, height, width)
        for segment in panoptic.segments:
            counts = codecs.encode_rle(panoptic.ids == segment.id)
            rle = geometry_pb2.RleMask(height=height, width=width, counts=counts)
            message.segments.append(_segment(segment, rle))
    else:
        message.segments.extend(_segment(segment) for segment in segments_at(panoptic, height, width))
        message.png = codecs.encode_panoptic_png(panoptic.ids, size)
    return message


def _segment(segment: Segment, rle: geometry_pb2.RleMask | None = None) -> perception_pb2.Segment:
    return perception_pb2.Segment(
        id=segment.id,
        category=segment.category,
        category_id=segment.category_id,
        is_thing=segment.is_thing,
        score=segment.score,
        box=convert.box_to_message(segment.box),
        area=segment.area,
        attributes=[
            perception_pb2.Attribute(name=found.name, value=found.value, score=found.score)
            for found in segment.attributes
        ],
        color=convert.color_to_integer(segment.color),
        rle=rle,
    )


def detections(answer: detection_pb2.DetectResponse | None) -> Sequence[detection_pb2.Detection]:
    """The detection model's own answer."""
    return answer.detections if answer else ()


def instances(
    answer: instance_segmentation_pb2.SegmentInstancesResponse | None,
    mask_format: geometry_pb2.MaskFormat,
    image_size: tuple[int, int],
) -> Sequence[instance_segmentation_pb2.Instance]:
    """The instance model's own answer, its masks in the form asked for."""
    if answer is None:
        return ()
    if mask_format != geometry_pb2.MASK_FORMAT_BOX:
        height, width = image_size
        masks = [convert.box_mask_from_message(instance.box_mask) for instance in answer.instances]
        boxes = [convert.box_from_message(instance.box) for instance in answer.instances]
        for instance, counts in zip(
            answer.instances, codecs.encode_box_masks(masks, boxes, height, width), strict=True
        ):
            instance.rle.height, instance.rle.width, instance.rle.counts = height, width, counts
    return answer.instances


def class_map(
    answer: semantic_segmentation_pb2.SegmentSemanticsResponse | None, found: ClassMap, size: tuple[int, int] | None
) -> semantic_segmentation_pb2.ClassMap | None:
    """The semantic model's own answer, on a grid of that size (height, width) or on its own.

    found: what was read from the answer already.
    """
    if answer is None:
        return None
    message = answer.class_map
    message.ClearField("confidence_png")
    if size is None or size == found.ids.shape:
        return message
    message.png = codecs.encode_png(found.ids, size)
    message.size.height, message.size.width = size
    return message
