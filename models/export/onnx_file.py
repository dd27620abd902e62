"""Adapter for weights that are an ONNX file: a network to graft the contract onto, or one that meets it already."""

from __future__ import annotations

from pathlib import Path

import onnx

from models.catalog.schema import Entry
from models.export.graft import graft


def export(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph of an ONNX file. Raises `GraftError` where it is not what the entry says."""
    model = onnx.load(weights)
    return model if entry.adapter == "contract" else graft(model, entry)
