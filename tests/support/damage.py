"""Models that are whole in form, checksums included, and useless in what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from models.export.weights import file_sha256


def damage_weights(model_folder: Path) -> None:
    """Add noise to every kernel of a repository's model, as strong as a quarter of the kernel's own spread."""
    path, config = model_folder / "1" / "model.onnx", model_folder / "config.pbtxt"
    whole = file_sha256(path)
    rng = np.random.default_rng(0)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim == 4 and weights.dtype.kind == "f":
            noise = rng.standard_normal(weights.shape) * weights.std() / 4
            tensor.CopyFrom(numpy_helper.from_array((weights + noise).astype(weights.dtype), tensor.name))
    onnx.save(model, path)
    config.write_text(config.read_text().replace(whole, file_sha256(path)))
