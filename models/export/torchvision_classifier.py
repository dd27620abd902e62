"""Adapter for torchvision's image classifiers."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torchvision.models import get_model

from models.catalog.schema import Entry
from models.export.torch_export import graft_network


def export(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph of one of torchvision's published checkpoints.

    Raises:
        ValueError: no such architecture, or the weights do not fit it.
    """
    model = get_model(entry.architecture, weights=None, num_classes=len(entry.labels))
    try:
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ValueError(f"{entry.name}: {weights.name} does not fit {entry.architecture}: {error}") from error
    return graft_network(model, entry, ["scores"])
