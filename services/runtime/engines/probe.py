"""The inference that proves that a model works."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.runtime.engines.base import Model


def probe_inputs(model: Model) -> dict[str, NDArray[np.generic]]:
    """A black picture in the shape that `model` takes: one picture, and its shortest edge where the size is open."""
    image = model.inputs[0]
    open_size = model.resize.shortest_edge
    shape = tuple(open_size if size == -1 else size for size in image.shape)
    return {image.name: np.zeros((1, *shape) if model.max_batch_size > 0 else shape, np.uint8)}
