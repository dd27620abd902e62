"""The bill of materials of the services, CycloneDX as JSON: `python -m deploy.sbom build/perception.cdx.json`.

It holds the packages of the services' image as they are locked, the models that the project brings as its catalogue
describes them, and the images that others make, by digest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from deploy.lock import LOCKS, PROJECT

Component = dict[str, Any]


def packages(lock: Path) -> dict[str, Any]:
    """A document with the packages of a lock, each with its hashes, and perception-services as what they make up."""
    program = Path(sys.executable).parent / "cyclonedx-py"
    command = [str(program), "requirements", str(lock), f"--pyproject={PROJECT / 'pyproject.toml'}"]
    # No serial number and no time: the same lock gives the same document.
    ran = subprocess.run([*command, "--output-reproducible"], capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(ran.stdout)
    for component in document["components"]:
        # They repeat the lock's line; name, version and hashes stand in fields of their own.
        del component["description"]
    return document


def models(
    catalog: Path = PROJECT / "models/catalog", weights: Path = PROJECT / "models/weights"
) -> Iterator[Component]:
    """A component for each model of the catalogue whose weights the project brings."""
    for path in sorted(catalog.glob("*.yaml")):
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
        if (weights / entry["source"]["file"]).is_file():
            yield {
                "type": "machine-learning-model",
                "bom-ref": f"model:{entry['name']}",
                "name": entry["name"],
                "description": entry["description"],
                "licenses": [{"license": {"name": entry["licence"]}}],
                "hashes": [{"alg": "SHA-256", "content": entry["source"]["sha256"]}],
                "modelCard": {"modelParameters": {"task": entry["task"], "modelArchitecture": entry["architecture"]}},
            }


def images(pins: Path = PROJECT / "deploy/docker/.env") -> Iterator[Component]:
    """A component for each image that the project's own stand on or run beside."""
    for line in pins.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            variable, reference = line.split("=", 1)
            tagged, _, digest = reference.partition("@sha256:")
            name, _, tag = tagged.rpartition(":")
            hashes = {"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {}
            yield {"type": "container", "bom-ref": f"image:{variable}", "name": name, "version": tag, **hashes}


def document() -> dict[str, Any]:
    """The whole bill of materials. Raises `ValueError` where it is not what the standard asks for."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    whole = packages(LOCKS / "services-onnxruntime.txt")
    added = [*models(), *images()]
    whole["components"] += added
    whole["dependencies"] += [{"ref": component["bom-ref"]} for component in added]
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(whole))
    if wrong:
        raise ValueError(f"not CycloneDX {whole['specVersion']}: {wrong.data}")
    return whole


def main(path: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Write the bill of materials of the services, CycloneDX as JSON."""
    whole = document()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    kinds = [component["type"] for component in whole["components"]]
    counts = ", ".join(f"{kinds.count(kind)} x {kind}" for kind in sorted(set(kinds)))
    print(f"{path}: CycloneDX {whole['specVersion']}, {counts}")


if __name__ == "__main__":
    typer.run(main)
