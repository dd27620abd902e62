"""Building a model by name, and the file in which a trained one is kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.architectures.bisenet import BiSeNet
from models.architectures.classifier import CropClassifier
from models.architectures.faster_rcnn import build_faster_rcnn
from models.architectures.mask_rcnn import build_mask_rcnn
from models.architectures.yolo import build_yolo

FORMAT = "perception.trained_model.v1"


@dataclass(frozen=True)
class TrainedModel:
    """A model with its weights and what an exporter must know to use it.

    Attributes:
        model: in eval mode, on the CPU, float32.
        architecture: a name of `ARCHITECTURES`, with the `options` its constructor was given.
        labels: names of the classes, in the order of the model's class indices (background, where an architecture
            has one, is not among them).
        input_size: (width, height) in pixels of the pictures it was trained on.
        mean: per RGB channel, to be subtracted after scaling pixels to [0, 1] and before dividing by `std`.
        std: see `mean`.
        run: name of the training run; `step` is the number of steps it had made and `metrics` its last validation.
    """

    model: nn.Module
    architecture: str
    options: Mapping[str, Any]
    labels: tuple[str, ...]
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    run: str
    step: int
    metrics: Mapping[str, float]


ARCHITECTURES: Mapping[str, Callable[..., nn.Module]] = {
    "bisenet": BiSeNet,
    "yolo": build_yolo,
    "mask_rcnn": build_mask_rcnn,
    "faster_rcnn": build_faster_rcnn,
    "classifier": CropClassifier,
}


def build_model(architecture: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Return a new model of `ARCHITECTURES` with random weights.

    Raises:
        ValueError: no such architecture, or options that its constructor does not take.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"expected an architecture of {', '.join(ARCHITECTURES)}, found {architecture!r}")
    try:
        return ARCHITECTURES[architecture](num_classes, **options)
    except TypeError as error:
        raise ValueError(f"options {dict(options)} do not fit architecture {architecture!r}: {error}") from error


def save_trained(trained: TrainedModel, path: Path) -> None:
    """Write a trained model; a reader sees the old file or the new one, never half of it."""
    fields = {name: value for name, value in vars(trained).items() if name != "model"}
    fields |= {"options": dict(trained.options), "metrics": dict(trained.metrics)}
    unfinished = path.with_suffix(".tmp")
    torch.save({"format": FORMAT, **fields, "state_dict": trained.model.state_dict()}, unfinished)
    unfinished.replace(path)


def load_trained(path: str | Path) -> TrainedModel:
    """Read a file of `save_trained`, such as `runs/<run>/model.pt`.

    Raises:
        ValueError: the file is something else, or its weights do not fit its architecture.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    found = content.pop("format", None) if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path}: expected a trained model of format {FORMAT!r}, found format {found!r}")
    state = content.pop("state_dict")
    model = build_model(content["architecture"], len(content["labels"]), content["options"])
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit {content['architecture']}: {error}") from error
    return TrainedModel(model=model.eval(), **content)
