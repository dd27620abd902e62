"""Builds the project's images, and pins those that they stand on: `python -m deploy.docker.images --help`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from rich.console import Console
from rich.table import Table

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent
PINS = FOLDER / ".env"

Builder = Literal["docker", "buildah"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="The project's images.")
console = Console(stderr=True)

_PINNED = re.compile(r"^(?P<name>[^@\s]+?)(?::(?P<tag>[\w.-]+))?@(?P<digest>sha256:[0-9a-f]{64})$")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Image:
    """An image of ours. bases: what it stands on, by the names of the pins."""

    name: str
    file: str
    target: str
    bases: tuple[str, ...]


IMAGES = (
    Image("perception-services", "services.Dockerfile", "", ("PYTHON_IMAGE",)),
    Image("perception-models", "models.Dockerfile", "repository", ("PYTHON_IMAGE", "BUSYBOX_IMAGE")),
    Image("perception-model-job", "models.Dockerfile", "job", ("PYTHON_IMAGE", "BUSYBOX_IMAGE")),
)
DEFAULT_IMAGES = ("perception-services", "perception-models")


def read_pins(path: Path = PINS) -> dict[str, str]:
    """The images that others make, `name:tag` or `name:tag@sha256:…`, by the name of their variable."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def write_pins(path: Path, pins: Mapping[str, str]) -> None:
    """Sets the images in a file of pins; everything else in it stays."""
    text = path.read_text(encoding="utf-8")
    for name, reference in pins.items():
        text = re.sub(rf"(?m)^{name}=.*$", f"{name}={reference}", text)
    path.write_text(text, encoding="utf-8")


def version() -> str:
    """The images' tag, which is the chart's appVersion."""
    chart = yaml.safe_load((PROJECT / "deploy/helm/perception/Chart.yaml").read_text(encoding="utf-8"))
    return str(chart["appVersion"])


def build_command(
    image: Image, pins: Mapping[str, str], builder: Builder, arguments: Sequence[str], weights: Path | None
) -> list[str]:
    """The command that builds an image. Raises `ValueError` where one of its bases is not pinned by digest."""
    command = ["docker", "build", "--progress=plain"]
    if builder == "buildah":
        command = ["buildah", "bud", "--layers", "--isolation=chroot"]
        command += [f"--ignorefile={FOLDER / image.file}.dockerignore"]
    for base in image.bases:
        pinned = _PINNED.match(pins[base])
        if pinned is None:
            raise ValueError(
                f"{base}: expected name:tag@sha256:…, found {pins[base]}; `make pin-images` adds the digest"
            )
        # buildah takes a tag or a digest, not both.
        reference = f"{pinned['name']}@{pinned['digest']}" if builder == "buildah" else pins[base]
        command.append(f"--build-arg={base}={reference}")
    command += [
        f"--build-arg={argument}" for argument in (f"VERSION={version()}", f"REVISION={_revision()}", *arguments)
    ]
    if weights is not None:
        command.append(f"--build-context=weights={weights.resolve()}")
    for name, path in (
        ("certificates", _CERTIFICATES),
        ("pip", Path(os.environ.get("PIP_CONFIG_FILE", "/etc/pip.conf"))),
    ):
        if path.is_file():
            command.append(f"--secret=id={name},src={path}")
    target = [f"--target={image.target}"] if image.target else []
    return [*command, *target, f"--tag={image.name}:{version()}", f"--file={FOLDER / image.file}", str(PROJECT)]


def _revision() -> str:
    ran = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


def _builder() -> Builder:
    if shutil.which("docker") and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        return "docker"
    if shutil.which("buildah"):
        return "buildah"
    raise typer.BadParameter("expected a Docker engine, or buildah on PATH; found neither")


def _run(command: Sequence[str], what: str, log: Path) -> None:
    """Runs a build with its current step on the terminal and all that it says in a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", buffering=1, encoding="utf-8") as file, console.status(what) as status:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "DOCKER_BUILDKIT": "1"},
        )
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if line.strip():
                status.update(f"{what}: {line.strip()[:100]}")
    if process.wait():
        last = "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-15:])
        console.print(f"{what} failed:\n{last}all of it: {log}", soft_wrap=True, markup=False)
        raise typer.Exit(1)


def _size(builder: Builder, reference: str) -> str:
    template = "{{json .Size}}" if builder == "docker" else "{{.Size}}"
    command = [builder, "image", "inspect", "--format", template, reference]
    if builder == "buildah":
        command = ["buildah", "images", "--format", template, reference]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return f"{json.loads(said) / 1e6:.0f} MB" if builder == "docker" else said


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Images; without any, services and models.")] = None,
    builder: Annotated[
        Builder | None, typer.Option(help="Default: docker where its engine runs, else buildah.")
    ] = None,
    build_arg: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for the Dockerfile, such as PROFILE=street.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder with weights that the project does not bring.")] = None,
    pins: Annotated[Path, typer.Option(help="File that pins what the images stand on.")] = PINS,
) -> None:
    """Build images under the names and the tag that chart and compose files expect."""
    known = {image.name: image for image in IMAGES}
    chosen = names or list(DEFAULT_IMAGES)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise typer.BadParameter(f"expected {', '.join(known)}; found {', '.join(unknown)}")
    used = builder or _builder()
    table = Table("image", "unpacked")
    for name in chosen:
        try:
            command = build_command(known[name], read_pins(pins), used, build_arg or [], weights)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        _run(command, f"building {name} with {used}", PROJECT / ".cache/images" / f"{name}.log")
        table.add_row(f"{name}:{version()}", _size(used, f"{name}:{version()}"))
    console.print(table)


@app.command()
def pin(
    pins: Annotated[Path, typer.Option(help="File to write the digests into.")] = PINS,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; exit status 1 where a tag has moved on.")
    ] = False,
) -> None:
    """Ask the registries which images the tags stand for now, and pin them by digest."""
    found = {}
    for name, reference in read_pins(pins).items():
        tagged = reference.partition("@")[0]
        with console.status(f"asking for {tagged}"):
            found[name] = f"{tagged}@{resolve(tagged)}"
    moved = [name for name, reference in read_pins(pins).items() if found[name] != reference]
    for name in moved:
        console.print(f"{name}: {found[name]}", soft_wrap=True)
    if check and moved:
        raise typer.Exit(1)
    write_pins(pins, found)
    console.print(f"{len(found) - len(moved)} of {len(found)} as they were")


def resolve(reference: str) -> str:
    """The digest that a tag stands for at its registry, for all its architectures: `sha256:…`."""
    if shutil.which("skopeo"):
        insecure = ["--tls-verify=false"] if reference.startswith("localhost:") else []
        command = ["skopeo", "inspect", *insecure, "--format={{.Digest}}", f"docker://{reference}"]
    elif shutil.which("docker"):
        command = ["docker", "buildx", "imagetools", "inspect", "--format={{.Manifest.Digest}}", reference]
    else:
        raise typer.BadParameter("expected skopeo or docker on PATH, found neither")
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", ran.stdout.strip()):
        raise typer.BadParameter(f"{reference}: {' '.join(command[:3])} said {(ran.stderr or ran.stdout).strip()}")
    return ran.stdout.strip()


if __name__ == "__main__":
    app()
