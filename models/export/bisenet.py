"""Adapter for the public checkpoints of BiSeNet."""

from __future__ import annotations

from pathlib import Path

import onnx

from models.architectures.bisenet import load_public_checkpoint
from models.catalog.schema import Entry
from models.export.torch_export import graft_network


def export(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph of a checkpoint. Raises `ValueError` where it is another network."""
    return graft_network(load_public_checkpoint(weights), entry, ["logits"])
