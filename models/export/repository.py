"""Writes the model repository that Triton serves: one folder a task, with its configuration and its graph."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import onnx

from models.catalog.schema import Backend, Entry, Profile, load_entry, load_profile
from models.export.build import build_model
from models.export.config_pbtxt import config_text
from models.export.manifest import write_manifest
from models.export.weights import Progress, file_sha256, resolve_weights

Report = Callable[[str, str, bool], None]
"""Is told task, entry and whether the model was built anew."""


def build_repository(
    profile: str | Profile,
    destination: Path,
    *,
    download: bool = False,
    progress: Progress | None = None,
    report: Report | None = None,
) -> None:
    """Write `<destination>/<task>/config.pbtxt` and `1/model.onnx` for every task of a profile, and their digests.

    A model whose weights, entry and exporter are the same as when it was written is left alone. Files are replaced as a
    whole, the graph first, so that a server that watches the folder never reads half of one.

    Args:
        profile: name of a YAML in `models/profiles`, or a profile.
        destination: the repository; other folders in it are left alone.
        download: fetch weights that no folder has from upstream.
        progress: is told bytes done and in all while downloading.
        report: is told of each task when it is done.

    Raises:
        models.catalog.schema.CatalogError, models.export.weights.WeightsError, models.export.download.DownloadError,
        models.export.build.MissingPackageError, ValueError: as the steps do.
    """
    if isinstance(profile, str):
        profile = load_profile(profile)
    for task, name in profile.tasks.items():
        entry = load_entry(name)
        if entry.task != task:
            raise ValueError(f"profile {profile.name}: expected an entry for {task}, found {name} for {entry.task}")
        weights = resolve_weights(entry.source, may_download=download, progress=progress)
        is_new = write_model(entry, weights, destination / task, profile.backend)
        if report is not None:
            report(task, name, is_new)
    write_manifest(destination, list(profile.tasks))


def write_model(entry: Entry, weights: Path, folder: Path, backend: Backend = "onnxruntime") -> bool:
    """Write one model's folder. Returns False where it was up to date."""
    weights_sha256 = file_sha256(weights)
    build_key = _build_key(entry, weights_sha256, backend)
    config, graph = folder / "config.pbtxt", folder / "1" / "model.onnx"
    if _is_up_to_date(config, graph, build_key):
        return False
    model = build_model(entry, weights)
    content = model.SerializeToString()
    text = config_text(
        entry,
        model,
        backend,
        {
            "weights_sha256": weights_sha256,
            "model_sha256": hashlib.sha256(content).hexdigest(),
            "build_key": build_key,
        },
    )
    replace_file(graph, content)
    replace_file(config, text.encode())
    return True


def _build_key(entry: Entry, weights_sha256: str, backend: Backend) -> str:
    """Return a digest of everything that decides what is written."""
    digest = hashlib.sha256()
    for part in (entry.model_dump_json(), weights_sha256, backend, onnx.__version__):
        digest.update(part.encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _is_up_to_date(config: Path, graph: Path, build_key: str) -> bool:
    if not (config.is_file() and graph.is_file()):
        return False
    parameters = dict(re.findall(r'key: "(\w+)" value: \{ string_value: "([0-9a-f]{64})" \}', config.read_text()))
    return parameters.get("build_key") == build_key and parameters.get("model_sha256") == file_sha256(graph)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)
