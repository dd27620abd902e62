"""Finds a model's weights: in a folder of the user, bundled, in the test data or, when asked, upstream."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from models.catalog.schema import CATALOG, Source
from models.export.download import download

Progress = Callable[[int, int], None]
"""Is told bytes done and bytes in all (0 where unknown)."""

BUNDLED = CATALOG.parent / "weights"
CACHE = CATALOG.parents[1] / ".cache" / "weights"
"""Where downloads go when WEIGHTS_DIR is not set."""


class WeightsError(RuntimeError):
    """Weights are missing, or nothing says which file is the right one."""


class WrongDigestError(WeightsError):
    """A file is not the one that its catalogue entry names; says the expected and the found SHA-256."""


def resolve_weights(source: Source, *, may_download: bool = False, progress: Progress | None = None) -> Path:
    """Return the verified weights file of `source`.

    Looked for by name, in this order, in each folder and in the folders directly in it: `WEIGHTS_DIR`, the bundled
    weights, earlier downloads, `PERCEPTION_DATA/weights`; then upstream, if `may_download`.

    Raises:
        WrongDigestError: the first file of that name is another one than the catalogue's.
        WeightsError: no such file, or no SHA-256 to compare it with.
        models.export.download.DownloadError: upstream did not give the file.
    """
    for folder in _folders():
        for path in (folder / source.file, *sorted(folder.glob(f"*/{source.file}"))):
            if path.is_file():
                verify(path, source.digest or _digest_beside(path))
                return path
    where = ", ".join(map(str, _folders()))
    if source.url is None:
        raise WeightsError(f"expected {source.file} in one of {where}, found none; it has no upstream address")
    if source.digest is None:
        raise WeightsError(
            f"expected {source.file} in one of {where}, found none. No SHA-256 is known of {source.url}, so it is not "
            f"downloaded: put the file into WEIGHTS_DIR, and its digest beside it as {source.file}.sha256"
        )
    if not may_download:
        raise WeightsError(
            f"expected {source.file} in one of {where}, found none; --download fetches it from {source.url}"
        )
    target = (_user_folder() or CACHE) / source.file
    download(source.url, target, lambda path: verify(path, source.digest, source.file), progress)
    return target


def verify(path: Path, digest: str | None, name: str | None = None) -> None:
    """Compare the SHA-256 of `path` with `digest`, all of it or as many first digits as are known.

    Raises:
        WrongDigestError: it is another one.
        WeightsError: there is none to compare with.
    """
    if digest is None:
        raise WeightsError(
            f"{path}: no SHA-256 is known for it; write the one that you trust into {path.name}.sha256 beside it"
        )
    found = file_sha256(path)
    if not found.startswith(digest):
        raise WrongDigestError(f"{name or path}: expected SHA-256 {digest}, found {found}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_beside(path: Path) -> str | None:
    beside = path.with_name(f"{path.name}.sha256")
    return beside.read_text(encoding="ascii").split()[0].lower() if beside.is_file() else None


def _folders() -> list[Path]:
    data = os.environ.get("PERCEPTION_DATA")
    folders = [_user_folder(), BUNDLED, CACHE, Path(data) / "weights" if data else None]
    return [folder for folder in folders if folder is not None]


def _user_folder() -> Path | None:
    folder = os.environ.get("WEIGHTS_DIR")
    return Path(folder) if folder else None
