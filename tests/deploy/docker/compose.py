"""The compose files as Docker would read them, and the loader that Docker Compose itself is made with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from string import Template
from typing import Any

import yaml

from deploy.docker.images import FOLDER, read_pins
from deploy.helm import tools

LAPTOP = (FOLDER / "compose.yaml",)
GPU = (*LAPTOP, FOLDER / "compose.gpu.yaml")

Service = dict[str, Any]


def why_no_loader() -> str:
    """Why the compose files cannot be loaded here; empty where they can."""
    return tools.missing("compose-config")


def load(files: tuple[Path, ...], folder: Path, edit: tuple[str, str] = ("", "")) -> subprocess.CompletedProcess[str]:
    """Runs the loader on files whose variables .env sets. edit: what to replace in the last of them, and by what."""
    copies = []
    for path in files:
        text = Template(path.read_text()).substitute(read_pins())
        if path == files[-1] and edit[0]:
            assert edit[0] in text
            text = text.replace(*edit)
        copies.append(folder / path.name)
        copies[-1].write_text(text)
    command = [str(tools.program("compose-config")), *map(str, copies)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def services(files: tuple[Path, ...], folder: Path) -> dict[str, Service]:
    """The services, merged and normalised. Fails where the loader refuses them.

    `environment` is a map; `passed_on` names the variables that Docker Compose takes from its own environment.
    """
    ran = load(files, folder)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Service] = yaml.safe_load(ran.stdout)["services"]
    for service in found.values():
        given = service.get("environment") or {}
        if isinstance(given, list):
            given = {name: value if equals else None for name, equals, value in (one.partition("=") for one in given)}
        service["environment"] = {name: value for name, value in given.items() if value is not None}
        service["passed_on"] = {name for name, value in given.items() if value is None}
    return found
