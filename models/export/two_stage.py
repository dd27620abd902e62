"""What the adapters of two-stage detectors share: a fixed number of rows, and the export."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.catalog.schema import Entry
from models.export.contract import IMAGE, OUTPUTS, set_dims
from models.export.graft import finish
from models.export.torch_export import export_graph


def padded_rows(boxes: Tensor, scores: Tensor, classes: Tensor, masks: Tensor | None, rows: int) -> tuple[Tensor, ...]:
    """Return the contract's outputs for n detections, best first, with zeros behind them up to `rows`.

    Args:
        boxes: float32 [n,4], xyxy. scores: float32 [n]. classes: int64 [n]. masks: float32 [n,1,M,M] or None.
        rows: K; n is not more.
    """
    count = torch.ones_like(classes).sum().reshape(1)
    outputs = [
        count.to(torch.int32),
        functional.pad(boxes, (0, 0, 0, rows))[:rows],
        functional.pad(scores, (0, rows))[:rows],
        functional.pad(classes, (0, rows))[:rows].to(torch.int32),
    ]
    if masks is not None:
        levels = functional.pad(masks[:, 0] * 255 + 0.5, (0, 0, 0, 0, 0, rows))[:rows]
        outputs.append(levels.to(torch.uint8))
    return tuple(outputs)


def export_two_stage(detector: nn.Module, entry: Entry) -> onnx.ModelProto:
    """Return the contract graph of a module that takes the image uint8 [H,W,3] and gives the contract's outputs."""
    image = entry.image
    any_size = image.resize == "shortest_edge"
    height, width = (image.shortest_edge, image.shortest_edge) if any_size else (image.height, image.width)
    # Traced with noise, so that there is something to detect and no branch for an empty picture is taken.
    example = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    names = [name for name, _, _ in OUTPUTS[entry.task]]
    axes = {IMAGE: {0: "height", 1: "width"}} if any_size else {}
    model = export_graph(detector, example, IMAGE, names, axes)
    rows, mask_size = entry.head.max_detections, entry.head.mask_size
    sizes = {
        "num_detections": [1],
        "detection_boxes": [rows, 4],
        "detection_scores": [rows],
        "detection_classes": [rows],
        "detection_masks": [rows, mask_size, mask_size],
    }
    for output in model.graph.output:
        # Tracing cannot know that n rows with K behind them, cut at K, are K.
        set_dims(output, sizes[output.name])
    return finish(model, entry)
