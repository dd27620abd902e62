"""From a YOLO network's raw predictions to the contract's detections, written in ONNX's own textual syntax.

All of it runs inside the graph and keeps the batch axis N. Three steps:

1. *Decode*: every layout becomes boxes (centre and size in input pixels) [N,4,A], scores [N,C,A] and mask coefficients
   [N,P,A] of the A anchors.
2. *Select*: the T pairs of anchor and class with the best scores are candidates. They go through class-wise
   non-maximum suppression, and the best K that survive are the answer. ONNX gives the survivors of a whole batch as one
   list of (image, class, candidate); scattering their scores back over [N,T] and taking the top K per image turns it
   into fixed rows again.
3. *Masks* (Bolya et al., *YOLACT: Real-time Instance Segmentation*, ICCV 2019): a mask is the sigmoid of a linear
   combination of the prototypes, sampled bilinearly at the centres of M x M cells of its box.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from models.catalog.schema import YoloHead
from models.export.onnx_text import graph_from_text

CANDIDATES = 1000
"""T, the pairs of anchor and class that take part in the suppression, whose cost grows with their number."""
YOLOX_STRIDES = (8, 16, 32)


def yolo_head(
    head: YoloHead,
    num_classes: int,
    raw_shape: tuple[int, int],
    prototype_shape: tuple[int, ...],
    input_size: tuple[int, int],
) -> onnx.ModelProto:
    """Return the graph `raw [, prototypes] -> detections`.

    Args:
        head: layout, thresholds, K and M.
        num_classes: C.
        raw_shape: of the raw predictions, without the batch axis.
        prototype_shape: (P, h, w) of the mask prototypes; () without masks.
        input_size: (width, height) of the network's input in pixels.

    Raises:
        ValueError: the predictions do not have as many channels or anchors as the layout, C and P make.
    """
    channels, anchors = raw_shape if head.layout == "yolov8" else raw_shape[::-1]
    coefficients = prototype_shape[0] if prototype_shape else 0
    expected = 4 + (head.layout != "yolov8") + num_classes + coefficients
    if channels != expected:
        raise ValueError(
            f"layout {head.layout} with {num_classes} classes and {coefficients} mask coefficients: expected raw "
            f"predictions of {expected} channels, found {channels} in {list(raw_shape)}"
        )
    candidates = min(CANDIDATES, anchors)
    rows = min(head.max_detections, candidates)
    inputs = [f"float[batch,{raw_shape[0]},{raw_shape[1]}] raw"]
    outputs = [
        "int32[batch,1] num_detections",
        f"float[batch,{rows},4] detection_boxes",
        f"float[batch,{rows}] detection_scores",
        f"int32[batch,{rows}] detection_classes",
    ]
    nodes = _decode(head, num_classes, coefficients) + _select(head, num_classes, candidates, rows, input_size)
    if prototype_shape:
        inputs.append(f"float[batch,{','.join(map(str, prototype_shape))}] prototypes")
        outputs.append(f"uint8[batch,{rows},{head.mask_size},{head.mask_size}] detection_masks")
        nodes += _masks(head, prototype_shape, rows, input_size)
    model = graph_from_text("yolo_head", ", ".join(inputs), ", ".join(outputs), nodes)
    if head.layout == "yolox":
        model.graph.initializer.extend(_yolox_grid(anchors, input_size))
    return model


def _decode(head: YoloHead, num_classes: int, coefficients: int) -> str:
    last = ", coefficients" if coefficients else ""
    if head.layout == "yolov8":
        return f"""
            channel_counts = Constant<value_ints = {_sizes(4, num_classes, coefficients)}>()
            boxes, scores{last} = Split<axis = 1>(raw, channel_counts)
        """
    text = f"""
        channels = Transpose<perm = [0, 2, 1]>(raw)
        channel_counts = Constant<value_ints = {_sizes(4, 1, num_classes, coefficients)}>()
        raw_boxes, objectness, class_scores{last} = Split<axis = 1>(channels, channel_counts)
        scores = Mul(objectness, class_scores)
    """
    if head.layout == "yolov5":
        return text + "boxes = Identity(raw_boxes)"
    # Ge et al., YOLOX (2021): the centre relative to its cell, the logarithm of the size, both in units of the stride.
    return (
        text
        + """
        cell_offset, log_size = Split<axis = 1, num_outputs = 2>(raw_boxes)
        cell_centre = Add(cell_offset, cells)
        cell_size = Exp(log_size)
        in_cells = Concat<axis = 1>(cell_centre, cell_size)
        boxes = Mul(in_cells, strides)
    """
    )


def _select(head: YoloHead, num_classes: int, candidates: int, rows: int, input_size: tuple[int, int]) -> str:
    width, height = input_size
    # The T best pairs can only be of the T anchors that are best by their best class, which are cheaper to find first.
    # One suppression serves all classes: boxes of different classes are moved so far apart that they cannot overlap.
    return f"""
        axis1 = Constant<value_ints = [1]>()
        axis2 = Constant<value_ints = [2]>()
        zero = Constant<value_float = 0.0>()
        half = Constant<value_float = 0.5>()

        best_scores = ReduceMax<keepdims = 0>(scores, axis1)
        candidate_count = Constant<value_ints = [{candidates}]>()
        _, best_anchors = TopK<axis = 1>(best_scores, candidate_count)
        best_anchor_row = Unsqueeze(best_anchors, axis1)
        {_gather_channels("anchor_scores", "scores", num_classes, "best_anchor_row")}
        flat_shape = Constant<value_ints = [0, {num_classes * candidates}]>()
        pair_scores = Reshape(anchor_scores, flat_shape)
        candidate_scores, pairs = TopK<axis = 1>(pair_scores, candidate_count)
        anchor_count = Constant<value_int = {candidates}>()
        candidate_classes = Div(pairs, anchor_count)
        columns = Mod(pairs, anchor_count)
        candidates = GatherElements<axis = 1>(best_anchors, columns)
        candidate_row = Unsqueeze(candidates, axis1)
        {_gather_channels("candidate_boxes", "boxes", 4, "candidate_row")}

        centre, size = Split<axis = 1, num_outputs = 2>(candidate_boxes)
        half_size = Mul(size, half)
        top_left = Sub(centre, half_size)
        bottom_right = Add(centre, half_size)
        corner_rows = Concat<axis = 1>(top_left, bottom_right)
        corners = Transpose<perm = [0, 2, 1]>(corner_rows)

        class_distance = Constant<value_float = {2.0 * max(width, height)}>()
        class_values = Cast<to = {TensorProto.FLOAT}>(candidate_classes)
        class_offsets = Mul(class_values, class_distance)
        class_offset_columns = Unsqueeze(class_offsets, axis2)
        boxes_apart = Add(corners, class_offset_columns)
        one_class = Unsqueeze(candidate_scores, axis1)
        most = Constant<value_int = {rows}>()
        iou_threshold = Constant<value_float = {head.iou_threshold:.9f}>()
        score_threshold = Constant<value_float = {head.score_threshold:.9f}>()
        selected = NonMaxSuppression(boxes_apart, one_class, most, iou_threshold, score_threshold)

        image_and_anchor = Constant<value_ints = [0, 2]>()
        survivors = Gather<axis = 1>(selected, image_and_anchor)
        survivor_scores = GatherND(candidate_scores, survivors)
        candidates_shape = Shape(candidate_scores)
        no_scores = ConstantOfShape(candidates_shape)
        surviving_scores = ScatterND(no_scores, survivors, survivor_scores)
        row_count = Constant<value_ints = [{rows}]>()
        detection_scores, order = TopK<axis = 1>(surviving_scores, row_count)

        is_detection = Greater(detection_scores, zero)
        ones = Cast<to = {TensorProto.INT32}>(is_detection)
        num_detections = ReduceSum<keepdims = 1>(ones, axis1)

        row_column = Unsqueeze(order, axis2)
        corner_shape = Constant<value_ints = [1, 1, 4]>()
        row_corners = Expand(row_column, corner_shape)
        row_boxes = GatherElements<axis = 1>(corners, row_corners)
        least = Constant<value_floats = [0.0, 0.0, 0.0, 0.0]>()
        greatest = Constant<value_floats = [{width}.0, {height}.0, {width}.0, {height}.0]>()
        not_negative = Max(row_boxes, least)
        inside = Min(not_negative, greatest)
        is_box = Unsqueeze(is_detection, axis2)
        detection_boxes = Where(is_box, inside, zero)

        row_classes = GatherElements<axis = 1>(candidate_classes, order)
        class_numbers = Cast<to = {TensorProto.INT32}>(row_classes)
        detection_classes = Mul(class_numbers, ones)
    """


def _masks(head: YoloHead, prototype_shape: tuple[int, ...], rows: int, input_size: tuple[int, int]) -> str:
    count, height, width = prototype_shape
    # Interpolation is linear, so the weighted sum may come before the sampling, where it is one matrix product.
    return f"""
        anchors = GatherElements<axis = 1>(candidates, order)
        anchor_row = Unsqueeze(anchors, axis1)
        {_gather_channels("coefficient_rows", "coefficients", count, "anchor_row")}
        weights = Transpose<perm = [0, 2, 1]>(coefficient_rows)
        plane_shape = Constant<value_ints = [0, {count}, {height * width}]>()
        flat_prototypes = Reshape(prototypes, plane_shape)
        flat_logits = MatMul(weights, flat_prototypes)
        map_shape = Constant<value_ints = [-1, 1, {height}, {width}]>()
        logits = Reshape(flat_logits, map_shape)

        region_shape = Constant<value_ints = [-1, 4]>()
        regions = Reshape(detection_boxes, region_shape)
        first = Constant<value_int = 0>()
        step = Constant<value_int = 1>()
        map_count = Shape<start = 0, end = 1>(logits)
        axis0 = Constant<value_ints = [0]>()
        map_total = Squeeze(map_count, axis0)
        own_map = Range(first, map_total, step)
        sampled = RoiAlign<coordinate_transformation_mode = "half_pixel", mode = "avg", sampling_ratio = 1,
            output_height = {head.mask_size}, output_width = {head.mask_size},
            spatial_scale = {width / input_size[0]:.9f}>(logits, regions, own_map)
        probability = Sigmoid(sampled)
        most_level = Constant<value_float = 255.0>()
        level = Mul(probability, most_level)
        rounded = Add(level, half)
        levels = Cast<to = {TensorProto.UINT8}>(rounded)
        mask_shape = Constant<value_ints = [-1, {rows}, {head.mask_size}, {head.mask_size}]>()
        all_masks = Reshape(levels, mask_shape)
        mask_axes = Constant<value_ints = [2, 3]>()
        is_mask = Unsqueeze(is_detection, mask_axes)
        black = Constant<value = uint8 {{0}}>()
        detection_masks = Where(is_mask, all_masks, black)
    """


def _gather_channels(result: str, source: str, channels: int, row: str) -> str:
    """Lines that take the anchors `row` [N,1,T] from `source` [N,channels,A]."""
    return f"""
        {result}_shape = Constant<value_ints = [1, {channels}, 1]>()
        {result}_index = Expand({row}, {result}_shape)
        {result} = GatherElements<axis = 2>({source}, {result}_index)
    """


def _sizes(*sizes: int) -> list[int]:
    return [size for size in sizes if size]


def _yolox_grid(anchors: int, input_size: tuple[int, int]) -> list[onnx.TensorProto]:
    """`cells` [1,2,A], column and row of each anchor's cell, and `strides` [1,1,A] in pixels, finest level first."""
    width, height = input_size
    cells, strides = [], []
    for stride in YOLOX_STRIDES:
        rows, columns = np.divmod(np.arange((height // stride) * (width // stride)), width // stride)
        cells.append(np.stack([columns, rows]).astype(np.float32))
        strides.append(np.full(rows.size, stride, np.float32))
    grid = np.concatenate(cells, axis=1)
    if grid.shape[1] != anchors:
        raise ValueError(
            f"layout yolox at {width}x{height}: expected {grid.shape[1]} anchors of strides {YOLOX_STRIDES}, "
            f"found {anchors}"
        )
    return [
        numpy_helper.from_array(grid[None], "cells"),
        numpy_helper.from_array(np.concatenate(strides)[None, None], "strides"),
    ]
