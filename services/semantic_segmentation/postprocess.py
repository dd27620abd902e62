"""Output tensors to a class map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from perception import codecs
from perception.v1 import geometry_pb2, image_pb2, semantic_segmentation_pb2

from services.runtime.task_service import Run


def to_class_map(
    run: Run, resolution: geometry_pb2.Resolution, include_confidence: bool
) -> semantic_segmentation_pb2.ClassMap:
    """The class of every pixel, on the model's grid or the picture's."""
    size = run.fit.picture_size if resolution != geometry_pb2.RESOLUTION_MODEL else None
    ids = _on_grid(run, "class_map", size)
    confidence = "class_confidence" in run.outputs and include_confidence
    return semantic_segmentation_pb2.ClassMap(
        png=codecs.encode_png(ids),
        size=image_pb2.ImageSize(height=ids.shape[0], width=ids.shape[1]),
        labels=run.model.labels,
        confidence_png=codecs.encode_png(_on_grid(run, "class_confidence", size)) if confidence else b"",
    )


def _on_grid(run: Run, name: str, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """A map without its padding, on a grid of that size (height, width), or on the model's own."""
    shown = run.fit.crop(np.asarray(run.outputs[name], np.uint8))
    if size is None or shown.shape == size:
        return np.ascontiguousarray(shown)
    return np.asarray(cv2.resize(shown, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
