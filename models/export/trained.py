"""Adapter for the models that this project trains: `model.pt` of a run, or the graph exported from one, as bundled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from models.catalog.schema import Entry

if TYPE_CHECKING:
    from models.architectures.trained import TrainedModel


def export(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph of a trained model; an `.onnx` file is one already, and needs no torch.

    Raises:
        ValueError: the model was trained with another input, other pixels or other labels than the entry says.
    """
    if weights.suffix == ".onnx":
        return onnx.load(weights)
    from models.architectures.trained import load_trained

    return export_model(load_trained(weights), entry)


def export_model(trained: TrainedModel, entry: Entry) -> onnx.ModelProto:
    """Return the contract graph of a trained model. Raises `ValueError` as `export` does."""
    _check_agreement(trained, entry)
    if trained.architecture == "yolo":
        from models.export.ultralytics_yolo import export_model as export_yolo

        return export_yolo(trained.model, entry)
    if trained.architecture in ("faster_rcnn", "mask_rcnn"):
        import torch

        from models.export.torchvision_detection import export_model as export_rcnn

        # Label 0 is background, label i + 1 is class i.
        return export_rcnn(trained.model, entry, torch.arange(-1, len(entry.labels)).clamp(min=0))
    from models.export.torch_export import graft_network

    return graft_network(trained.model, entry, ["logits"])


def _check_agreement(trained: TrainedModel, entry: Entry) -> None:
    wanted: dict[str, Any] = {
        "architecture": entry.architecture,
        "labels": entry.labels,
        "input size": (entry.image.width, entry.image.height),
        "mean": entry.pixels.mean,
        "std": entry.pixels.std,
    }
    found = {
        "architecture": trained.architecture,
        "labels": tuple(trained.labels),
        "input size": tuple(trained.input_size),
        "mean": tuple(trained.mean),
        "std": tuple(trained.std),
    }
    different = [f"{key}: expected {wanted[key]}, found {found[key]}" for key in wanted if wanted[key] != found[key]]
    if different:
        raise ValueError(f"{entry.name}: run {trained.run} does not fit the entry: {'; '.join(different)}")
