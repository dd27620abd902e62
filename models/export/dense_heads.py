"""From per-pixel or per-image class scores to the contract's outputs, written in ONNX's own textual syntax."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from models.catalog.schema import ClassifierHead, SemanticHead
from models.export.onnx_text import graph_from_text


def semantic_head(
    head: SemanticHead, num_classes: int, logits_shape: tuple[int, ...], input_size: tuple[int, int]
) -> onnx.ModelProto:
    """Return the graph `logits -> class_map, class_confidence`.

    The confidence is the softmax probability of the best class times 255. Logits on another grid than that of the class
    map are interpolated bilinearly first.

    Args:
        head: stride of the class map.
        num_classes: C.
        logits_shape: (C, h, w).
        input_size: (width, height) of the network's input in pixels.

    Raises:
        ValueError: the logits have another number of classes, or the stride does not divide the input.
    """
    classes, *grid = logits_shape
    if classes != num_classes:
        raise ValueError(f"expected logits of {num_classes} classes as there are labels, found {classes}")
    width, height = input_size
    if width % head.stride or height % head.stride:
        raise ValueError(f"expected an input that stride {head.stride} divides, found {width}x{height}")
    size = [height // head.stride, width // head.stride]
    resize = "scores = Identity(logits)"
    if grid != size:
        resize = f"""
            size = Constant<value_ints = {size}>()
            scores = Resize<mode = "linear", coordinate_transformation_mode = "half_pixel", axes = [2, 3]>
                (logits, , , size)
        """
    nodes = f"""
        {resize}
        axis1 = Constant<value_ints = [1]>()
        best_class = ArgMax<axis = 1, keepdims = 0>(scores)
        class_map = Cast<to = {TensorProto.UINT8}>(best_class)
        best_score = ReduceMax<keepdims = 1>(scores, axis1)
        behind = Sub(scores, best_score)
        odds = Exp(behind)
        total_odds = ReduceSum<keepdims = 0>(odds, axis1)
        most_level = Constant<value_float = 255.0>()
        level = Div(most_level, total_odds)
        half = Constant<value_float = 0.5>()
        rounded = Add(level, half)
        class_confidence = Cast<to = {TensorProto.UINT8}>(rounded)
    """
    outputs = ", ".join(f"uint8[batch,{size[0]},{size[1]}] {name}" for name in ("class_map", "class_confidence"))
    return graph_from_text("semantic_head", f"float[batch,{','.join(map(str, logits_shape))}] logits", outputs, nodes)


def classifier_head(head: ClassifierHead, num_classes: int, scores_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Return the graph `scores -> probabilities` over the labelled classes, which sum to 1.

    Args:
        head: what the scores are, and whether class 0 is a background to be dropped.
        num_classes: C, without that background.
        scores_shape: (C,), or (C + 1,) with background.

    Raises:
        ValueError: another number of scores.
    """
    expected = num_classes + head.drop_first
    if scores_shape != (expected,):
        raise ValueError(f"expected scores [{expected}] for {num_classes} labels, found {list(scores_shape)}")
    drop = "labelled = Identity(scores)"
    if head.drop_first:
        drop = f"""
            first = Constant<value_ints = [1]>()
            end = Constant<value_ints = [{expected}]>()
            labelled = Slice(scores, first, end, axis1)
        """
    normalise = "probabilities = Softmax<axis = 1>(labelled)"
    if head.output == "probabilities":
        normalise = """
            total = ReduceSum<keepdims = 1>(labelled, axis1)
            probabilities = Div(labelled, total)
        """
    nodes = f"axis1 = Constant<value_ints = [1]>() {drop} {normalise}"
    return graph_from_text(
        "classifier_head", f"float[batch,{expected}] scores", f"float[batch,{num_classes}] probabilities", nodes
    )
