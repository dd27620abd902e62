"""A repository is what was built, or its files are named."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from models.export.manifest import MANIFEST, RepositoryError, verify_repository
from models.export.repository import build_repository
from tests.models.test_cli import invoke


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build_repository("demo", folder)
    return folder


@pytest.fixture
def repository(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "repository"))


def test_what_was_built_is_right_and_sha256sum_agrees(repository: Path) -> None:
    assert verify_repository(repository) == [
        "classification",
        "detection",
        "instance_segmentation",
        "semantic_segmentation",
    ]
    command = ["sha256sum", "--check", "--strict", "--quiet", MANIFEST]
    assert subprocess.run(command, cwd=repository, check=False).returncode == 0
    code, output = invoke("verify", str(repository))
    assert code == 0
    assert "as they were built" in output


def flip_a_bit(repository: Path) -> None:
    path = repository / "detection" / "1" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def swap_two_models(repository: Path) -> None:
    first, second = (repository / task / "1" / "model.onnx" for task in ("detection", "classification"))
    shutil.copy(second, first)


def add_a_version(repository: Path) -> None:
    shutil.copytree(repository / "detection" / "1", repository / "detection" / "2")


def replace_the_weights(repository: Path) -> None:
    """By somebody who writes a manifest for them."""
    config = repository / "detection" / "config.pbtxt"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if "weights_sha256" not in line))
    command = "sha256sum detection/*.pbtxt detection/1/* > SHA256SUMS"
    subprocess.run(["sh", "-c", command], cwd=repository, check=True)


WRONG: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_bit, "detection/1/model.onnx: expected SHA-256"),
    (swap_two_models, "detection/1/model.onnx: expected SHA-256"),
    (add_a_version, "detection/2/model.onnx: is not in SHA256SUMS"),
    (replace_the_weights, "detection/config.pbtxt: weights_sha256: the catalogue says"),
    (lambda repository: (repository / "detection" / "config.pbtxt").unlink(), "found no such file"),
    (lambda repository: (repository / MANIFEST).unlink(), "`perception models build` writes it"),
    (lambda repository: (repository / MANIFEST).write_text("no digests"), "expected lines of a SHA-256"),
    (
        lambda repository: (repository / MANIFEST).write_text(f"{'0' * 64}  ../../etc/passwd\n"),
        "../../etc/passwd: expected SHA-256",
    ),
]


@pytest.mark.parametrize(("damage", "words"), WRONG)
def test_what_is_wrong_is_named(repository: Path, damage: Callable[[Path], None], words: str) -> None:
    damage(repository)
    with pytest.raises(RepositoryError) as raised:
        verify_repository(repository)
    assert words in str(raised.value)
    code, output = invoke("verify", str(repository))
    assert code == 1
    assert words in output
    assert "Traceback" not in output
