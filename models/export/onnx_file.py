"""Adapter for a network that somebody else exported to ONNX."""

from __future__ import annotations

from pathlib import Path

import onnx

from models.catalog.schema import Entry
from models.export.graft import graft


def export(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph around an ONNX file. Raises `GraftError` where it is not what the entry says."""
    return graft(onnx.load(weights), entry)
