"""One catalogue entry to one contract model."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

import onnx

from models.catalog.schema import Adapter, Entry
from models.export.contract import check_contract
from models.export.fp16_storage import store_weights_as_fp16

ADAPTERS: dict[Adapter, str] = {
    "onnx": "models.export.onnx_file",
    "ultralytics": "models.export.ultralytics_yolo",
    "torchvision_detection": "models.export.torchvision_detection",
    "torchvision_classifier": "models.export.torchvision_classifier",
    "detectron2": "models.export.detectron2_rcnn",
    "bisenet": "models.export.bisenet",
    "trained": "models.export.trained",
}


class MissingPackageError(RuntimeError):
    """An adapter needs a package that is not installed; says how to install it."""


class AdapterModule(Protocol):
    """What a module of `ADAPTERS` offers."""

    def export(self, entry: Entry, weights: Path) -> onnx.ModelProto:
        """Return the contract graph of `entry` with the weights of the file."""
        ...


def build_model(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph of a catalogue entry, checked, its weights stored as the entry says.

    Raises:
        MissingPackageError: the adapter needs an extra that is not installed.
        ValueError: the weights are not what the entry says.
    """
    try:
        adapter = cast(AdapterModule, importlib.import_module(ADAPTERS[entry.adapter]))
        model = adapter.export(entry, weights)
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{entry.name}: the {entry.adapter} adapter needs the package {error.name!r}: "
            + _INSTALL.get(error.name or "", "pip install 'perception-services[models]'")
        ) from error
    if entry.fp16_weights:
        store_weights_as_fp16(model)
    check_contract(model, entry.task)
    return model


_INSTALL = {
    "detectron2": "it has no release on PyPI; with torch and 'setuptools<81' (for pkg_resources) installed, "
    "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'",
}
