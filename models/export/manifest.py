"""What a model repository must hold, file by file, and whether it does.

`SHA256SUMS` at its top lists the digest of every file, as `sha256sum` writes and checks it: wherever the repository is
copied to, `sha256sum --check --strict SHA256SUMS` says whether it is the one that was built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from models.catalog.schema import CatalogError, load_entry
from models.export.weights import file_sha256

MANIFEST = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_PARAMETER = re.compile(r'key: "(\w+)" value: \{ string_value: "([^"]*)" \}')


class RepositoryError(ValueError):
    """Files of a model repository are not what they must be; a line for each, which names it."""


def write_manifest(repository: Path, tasks: list[str]) -> None:
    """Write the manifest of the models in these folders of a repository."""
    files = sorted(path for task in tasks for path in _files(repository / task))
    lines = [f"{file_sha256(path)}  {path.relative_to(repository).as_posix()}\n" for path in files]
    unfinished = repository / f".{MANIFEST}.tmp"
    unfinished.write_text("".join(lines), encoding="utf-8")
    unfinished.replace(repository / MANIFEST)


def verify_repository(repository: Path) -> list[str]:
    """Compare every file with the manifest, and every model's weights with the catalogue. Returns the models' names.

    Raises:
        RepositoryError: a file is missing, was changed or is not in the manifest; or a model was not made of the
            weights of its catalogue entry.
    """
    expected = _read_manifest(repository)
    models = sorted({name.split("/")[0] for name in expected})
    problems = [*_wrong_files(repository, expected), *_surplus_files(repository, models, expected)]
    if not problems:
        problems = [problem for model in models for problem in _wrong_weights(repository / model)]
    if problems:
        raise RepositoryError("\n".join(problems))
    return models


def _read_manifest(repository: Path) -> dict[str, str]:
    path = repository / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RepositoryError(f"{path}: {error.strerror}: `perception models build` writes it") from None
    found = [_LINE.fullmatch(line) for line in lines]
    if not found or not all(found):
        raise RepositoryError(f"{path}: expected lines of a SHA-256 and a file name, as sha256sum writes them")
    return {match[2]: match[1] for match in found if match}


def _wrong_files(repository: Path, expected: dict[str, str]) -> Iterator[str]:
    for name, digest in expected.items():
        path = repository / name
        if not path.resolve().is_relative_to(repository.resolve()) or not path.is_file():
            yield f"{name}: expected SHA-256 {digest}, found no such file"
        elif (found := file_sha256(path)) != digest:
            yield f"{name}: expected SHA-256 {digest}, found {found}"


def _surplus_files(repository: Path, models: list[str], expected: dict[str, str]) -> Iterator[str]:
    for model in models:
        for path in _files(repository / model):
            name = path.relative_to(repository).as_posix()
            if name not in expected:
                yield f"{name}: is not in {MANIFEST}"


def _wrong_weights(model: Path) -> Iterator[str]:
    config = model / "config.pbtxt"
    parameters = dict(_PARAMETER.findall(config.read_text(encoding="utf-8"))) if config.is_file() else {}
    try:
        digest = load_entry(parameters.get("catalog_entry", "")).source.digest
    except CatalogError as error:
        yield f"{model.name}/config.pbtxt: catalog_entry: {error}"
        return
    found = parameters.get("weights_sha256", "")
    if digest is not None and not found.startswith(digest):
        yield f"{model.name}/config.pbtxt: weights_sha256: the catalogue says {digest}, found {found or 'none'}"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
