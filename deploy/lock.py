"""Locks every Python environment: `python -m deploy.lock` writes deploy/locks.

A lock names each package of an environment once, at one version, with the SHA-256 of every file that may be installed
for it. It is complete, so that it is installed with `pip install --no-deps --require-hashes`. Versions that stand in a
lock stay where pyproject.toml allows them; `--upgrade` takes the newest that it allows.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

PROJECT = Path(__file__).resolve().parents[1]
LOCKS = PROJECT / "deploy" / "locks"
WITHOUT_DEPENDENCIES = PROJECT / "deploy" / "requirements-without-dependencies.txt"
TRITON = PROJECT / "deploy" / "triton-requirements.txt"
_OWN = ("perception-client", "perception-services")
_PYTHON = "3.11"

console = Console(stderr=True)


@dataclass(frozen=True)
class Lock:
    """An environment. extras: of perception-services. built_here: whether our two packages are built in it."""

    name: str
    extras: tuple[str, ...]
    built_here: bool = False

    @property
    def path(self) -> Path:
        """Where it stands."""
        return LOCKS / f"{self.name}.txt"


EVERYTHING = Lock("models", ("local", "models", "dev"), built_here=True)
"""`.venv-models`. All that the others hold stands in it at the same version."""
LOCKED = (
    EVERYTHING,
    Lock("dev", ("local", "dev"), built_here=True),
    Lock("local", ("local",), built_here=True),
    Lock("job", ("local", "models")),
    Lock("services-onnxruntime", ("onnxruntime",)),
    Lock("services", ()),
)


def build_requirements() -> list[str]:
    """What builds the two packages of this project, as their build systems ask for it."""
    files = (PROJECT / "clients/python/pyproject.toml", PROJECT / "pyproject.toml")
    asked = [requirement for path in files for requirement in _read(path)["build-system"]["requires"]]
    return sorted(set(asked))


def requirements(lock: Lock) -> list[str]:
    """What an environment asks for, each line a requirement as pip reads it."""
    extras = f"[{','.join(lock.extras)}]" if lock.extras else ""
    return [f"{PROJECT / 'clients/python'}", f"{PROJECT}{extras}", *(build_requirements() if lock.built_here else [])]


def packages(text: str) -> dict[str, str]:
    """What a lock or a requirements file pins: names as PyPI writes them, and what it says of each without hashes."""
    pinned = re.findall(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[\w+\])?(==[^\s\\;]+)", text)
    return {re.sub(r"[-_.]+", "-", name).lower(): version.removeprefix("==") for name, version in pinned}


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def compiled(asked: Sequence[str], preferred: str, *options: str) -> str:
    """The lock of some requirements; versions that stand in `preferred`, a lock, stay where they are allowed.

    Raises `RuntimeError` with uv's reason where there is none.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        output.write_text(preferred, encoding="utf-8")
        command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "-", f"--output-file={output}"]
        # Wheels alone, here and where they are installed: nothing runs code of its own before it is imported.
        command += ["--only-binary=:all:", "--quiet", "--universal", f"--python-version={_PYTHON}", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", *(f"--no-emit-package={name}" for name in _OWN), *options]
        ran = subprocess.run(command, cwd=PROJECT, input="\n".join(asked), capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RuntimeError(ran.stderr.strip())
        return output.read_text(encoding="utf-8")


def main(
    upgrade: Annotated[bool, typer.Option(help="Take the newest versions that pyproject.toml allows.")] = False,
) -> None:
    """Write the locks of all environments into deploy/locks."""
    LOCKS.mkdir(exist_ok=True)

    def preferred(path: Path) -> str:
        return path.read_text(encoding="utf-8") if path.is_file() and not upgrade else ""

    def lock(path: Path, asked: Sequence[str], *options: str, bare: Sequence[str] = ()) -> None:
        with console.status(f"locking {path.stem}"):
            text = compiled(asked, preferred(path), *options)
            if bare:
                text += compiled(bare, preferred(path), "--no-deps")
        path.write_text(text, encoding="utf-8")
        console.print(f"{path.relative_to(PROJECT)}: {len(packages(text))} packages")

    bare = WITHOUT_DEPENDENCIES.read_text(encoding="utf-8").splitlines()
    for one in LOCKED:
        same_versions = [] if one is EVERYTHING else [f"--constraints={EVERYTHING.path}"]
        lock(one.path, requirements(one), *same_versions, bare=bare)
    lock(LOCKS / "build.txt", build_requirements(), f"--constraints={EVERYTHING.path}")
    lock(LOCKS / "supply-chain.txt", _read(PROJECT / "pyproject.toml")["dependency-groups"]["supply-chain"])
    lock(LOCKS / "triton.txt", TRITON.read_text(encoding="utf-8").splitlines(), "--no-deps")


if __name__ == "__main__":
    typer.run(main)
