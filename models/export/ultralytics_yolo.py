"""Adapter for the YOLO models of the ultralytics library: v8 and 11, boxes and masks."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx
from torch import Tensor, nn

from models.catalog.schema import Entry
from models.export.torch_export import graft_network


def export(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph of an ultralytics checkpoint (`.pt`), which must come from a trusted source.

    Such files are pickles and run code when they are read: the digest in the catalogue is what they are trusted by.

    Raises:
        ValueError: the checkpoint holds another kind of model, or other classes, than the entry says.
    """
    model = load_checkpoint(weights)
    names = tuple(model.names[index] for index in sorted(model.names))
    if names != entry.labels:
        different = [
            f"{index} {found!r}" for index, found in enumerate(names) if found not in entry.labels[index : index + 1]
        ]
        raise ValueError(
            f"{entry.name}: expected the {len(entry.labels)} labels of the entry, found {len(names)} in {weights.name}"
            + (f", different at {', '.join(different[:5])}" if different else "")
        )
    return export_model(model, entry)


def export_model(model: nn.Module, entry: Entry) -> onnx.ModelProto:
    """Return the contract graph of an ultralytics `DetectionModel` or `SegmentationModel`.

    Raises:
        ValueError: the model has masks where the entry says none, or the other way round.
    """
    from ultralytics.nn.tasks import SegmentationModel

    has_masks = isinstance(model, SegmentationModel)
    if has_masks != (entry.task == "instance_segmentation"):
        raise ValueError(f"{entry.name}: expected a model for {entry.task}, found {type(model).__name__}")
    outputs = ("raw", "prototypes") if has_masks else ("raw",)
    return graft_network(_Raw(model.float()), entry, outputs)


def load_checkpoint(path: Path) -> nn.Module:
    """Return the model in an ultralytics checkpoint, in float32 and eval mode, with batch normalisation folded in."""
    # Read when ultralytics is imported: without these it looks for updates, downloads and installs by itself.
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "0")
    os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
    from ultralytics import YOLO

    return YOLO(str(path)).model.float().eval().fuse(verbose=False)


class _Raw(nn.Module):
    """The decoded predictions before suppression, and the mask prototypes, without the maps beside them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return raw [N,4+C+P,A]; (raw, prototypes [N,P,h,w]) of a model with masks."""
        answer, _ = self.model(pixels)
        return answer
