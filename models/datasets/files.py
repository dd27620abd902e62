"""Reading pictures, label maps and JSON from a data set's folders, with errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from models.datasets.sample import DatasetError

Format = TypeVar("Format", bound=BaseModel)


def read_image(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 [H, W, 3], RGB. Raises DatasetError where there is none that can be decoded."""
    image = cv2.imdecode(_bytes(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DatasetError(f"{path}: expected a picture, found bytes that cannot be decoded")
    return np.asarray(image, np.uint8)


def read_label_map(path: Path, dtype: type, shape: tuple[int, int]) -> NDArray[Any]:
    """A single-channel label map of the given dtype and shape (height, width), its values unchanged."""
    labels = cv2.imdecode(_bytes(path), cv2.IMREAD_UNCHANGED)
    if labels is None:
        raise DatasetError(f"{path}: expected a label map, found bytes that cannot be decoded")
    if labels.shape != shape or labels.dtype != dtype:
        expected = f"{np.dtype(dtype)} {shape}"
        raise DatasetError(f"{path}: expected a label map {expected}, found {labels.dtype} {labels.shape}")
    return np.asarray(labels)


def read_json(path: Path, form: type[Format]) -> Format:
    """A JSON file checked against ``form``. Raises DatasetError that names the first wrong field."""
    try:
        return form.model_validate_json(_bytes(path).tobytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        found = repr(first["input"])
        raise DatasetError(f"{path}: {field}: {first['msg']}, found {found[:80]}") from None


def inside(folder: Path, name: str, listed_in: Path) -> Path:
    """The file ``name`` in a folder. Raises DatasetError where a label file's name leads out of it."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"{listed_in}: expected file names inside {folder}, found {name!r}")
    return path


def _bytes(path: Path) -> NDArray[np.uint8]:
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DatasetError(f"{path}: expected a file, found {error.strerror or error}") from None
    if content.size == 0:
        raise DatasetError(f"{path}: expected content, found an empty file")
    return content
