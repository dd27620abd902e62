"""What the tests under tests/deploy need: `python -m deploy.helm.tools` builds programs, and caches schemas.

All of it comes as Go modules, at the versions that stand here, into .cache/helm, where the tests look for it. Every
module, those that a program is made of too, must have its checksum in deploy/locks/go-modules.sum. Needs Go; compiling
helm takes some minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console

_PROJECT = Path(__file__).resolve().parents[2]
CACHE = _PROJECT / ".cache" / "helm"
CHECKSUMS = _PROJECT / "deploy" / "locks" / "go-modules.sum"
"""A line for each module: its path, its version, and the sum that Go makes of its files."""

_PROGRAMS = {
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
    # What Docker Compose itself reads its files with.
    "compose-config": "github.com/compose-spec/compose-go/v2/cmd@v2.16.2",
}
KUBERNETES_VERSIONS = ("1.35.4", "1.36.3", "1.37.0")
"""The three minor versions whose schemas the chart is held to."""
# Helm takes a cluster that it does not ask for one of this version; its own build scripts set it likewise.
_HELM_KUBERNETES = " ".join(
    f"-X helm.sh/helm/v3/pkg/{package}.k8sVersion{name}={number}"
    for package in ("chartutil", "lint/rules")
    for name, number in zip(("Major", "Minor"), KUBERNETES_VERSIONS[-1].split(".")[:2], strict=True)
)
CUSTOM_RESOURCES = {
    "github.com/prometheus-operator/prometheus-operator@v0.94.1": "example/prometheus-operator-crd",
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases",
    "sigs.k8s.io/gateway-api@v1.6.3": "config/crd/standard",
}
"""The modules with the definitions of the custom resources that the chart may use, and the folders that hold them."""
SCHEMA_LOCATIONS = (
    f"{CACHE}/schemas/{{{{ .NormalizedKubernetesVersion }}}}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json",
    f"{CACHE}/schemas/custom/{{{{ .Group }}}}/{{{{ .ResourceKind }}}}_{{{{ .ResourceAPIVersion }}}}.json",
)
"""Where kubeconform finds a resource's schema."""

Schema = dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """Reads `=`, an operator in the definitions of monitoring.coreos.com, as the text that it is."""


def _as_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:value", _as_text)

console = Console(stderr=True)


def program(name: str) -> str | None:
    """Path of helm or another program: the cached one, or the machine's; None where there is neither."""
    cached = CACHE / "bin" / name
    return str(cached) if cached.is_file() else shutil.which(name)


def missing(*programs: str) -> str:
    """Why the tests that need these programs, and the schemas for kubeconform, cannot run; empty where they can."""
    lacking = [name for name in programs if program(name) is None]
    if "kubeconform" in programs and not (CACHE / "schemas" / "complete").is_file():
        lacking.append("Kubernetes' schemas")
    return f"{' and '.join(lacking)} missing: python -m deploy.helm.tools" if lacking else ""


def kubernetes_schemas(swagger: Schema) -> Iterator[tuple[str, Schema]]:
    """A strict JSON schema for each kind of Kubernetes' OpenAPI, under the file name that kubeconform looks for."""
    definitions = {name: _strict(definition) for name, definition in swagger["definitions"].items()}
    # Written as strings, but read as numbers too.
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["string", "integer"]}
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["string", "number"]}
    for name, definition in swagger["definitions"].items():
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        if len(kinds) == 1 and "metadata" in definition.get("properties", {}):
            group = kinds[0]["group"].partition(".")[0]
            suffix = "-".join(part for part in (group, kinds[0]["version"]) if part)
            used = _reachable(name, definitions)
            schema = {"$ref": f"#/definitions/{name}", "definitions": {key: definitions[key] for key in sorted(used)}}
            yield f"{kinds[0]['kind'].lower()}-{suffix}.json", schema


def custom_schemas(definition: Schema) -> Iterator[tuple[str, Schema]]:
    """A strict JSON schema for each version of a CustomResourceDefinition, under `group/kind_version.json`."""
    spec = definition["spec"]
    for version in spec["versions"]:
        name = f"{spec['group']}/{spec['names']['kind'].lower()}_{version['name']}.json"
        schema = _strict(version["schema"]["openAPIV3Schema"])
        # Every object has these, whether its definition says so or not.
        schema["properties"] |= {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        }
        yield name, schema


def _strict(schema: Any) -> Any:
    """OpenAPI as JSON schema, where objects hold nothing but what they declare."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["string", "integer"]}
    # Formats such as int-or-string are no JSON schema's, and defaults say nothing about what is allowed.
    strict = {
        key: {name: _strict(value) for name, value in values.items()} if key == "properties" else _strict(values)
        for key, values in schema.items()
        if key not in ("format", "default", "example") and not key.startswith("x-kubernetes-")
    }
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not is_open:
        strict["additionalProperties"] = False
    if strict.pop("nullable", False) and isinstance(strict.get("type"), str):
        strict["type"] = [strict["type"], "null"]
    return strict


def _reachable(name: str, definitions: Schema) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += _references(definitions[current])
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/definitions/")
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from _references(item)


def module(name: str) -> Path:
    """The unpacked folder of a Go module. Raises `RuntimeError` where it cannot be had or its checksum is another."""
    command = ["go", "mod", "download", "-json", name]
    ran = subprocess.run(command, cwd=CACHE, env=_environment(), capture_output=True, text=True, check=False)
    answer = json.loads(ran.stdout) if ran.stdout else {"Error": ran.stderr}
    if "Error" in answer:
        raise RuntimeError(f"{name}: {answer['Error']}")
    check_sums([f"{answer['Path']} {answer['Version']} {answer['Sum']}"])
    return Path(answer["Dir"])


def made_of(program: Path) -> list[str]:
    """The modules that a program was built from, in the form of `CHECKSUMS`."""
    ran = subprocess.run(["go", "version", "-m", program], capture_output=True, text=True, check=True)
    lines = [line.split() for line in ran.stdout.splitlines()]
    return [" ".join(words[1:]) for words in lines if words and words[0] in ("mod", "dep")]


def check_sums(found: list[str]) -> None:
    """Raises `RuntimeError` naming the modules that are not those of `CHECKSUMS`."""
    known = set(CHECKSUMS.read_text(encoding="utf-8").splitlines())
    if strangers := [line for line in found if line not in known]:
        raise RuntimeError("\n".join([f"expected lines of {CHECKSUMS}, found", *strangers]))


def custom_resource_definitions(name: str) -> Iterator[Schema]:
    """The CustomResourceDefinitions of one of `CUSTOM_RESOURCES`."""
    for path in sorted((module(name) / CUSTOM_RESOURCES[name]).glob("*.yaml")):
        for definition in yaml.load_all(path.read_text(encoding="utf-8"), _Loader):
            if definition and definition["kind"] == "CustomResourceDefinition":
                yield definition


def _environment() -> dict[str, str]:
    return {**os.environ, "GOBIN": str(CACHE / "bin"), "GOFLAGS": "", "CGO_ENABLED": "0"}


def _write(folder: Path, schemas: Iterator[tuple[str, Schema]]) -> None:
    for name, schema in schemas:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema), encoding="utf-8")


def main() -> None:
    """Build helm, kubeconform and the reader of compose files, and cache schemas; what is there already stays."""
    if shutil.which("go") is None:
        raise SystemExit("expected Go on PATH, found none")
    (CACHE / "bin").mkdir(parents=True, exist_ok=True)
    for name, package in _PROGRAMS.items():
        if not (CACHE / "bin" / name).is_file():
            with console.status(f"building {package}"):
                command = ["go", "install", f"-ldflags=-s -w {_HELM_KUBERNETES}", package]
                subprocess.run(command, cwd=CACHE, env=_environment(), check=True)
            installed = CACHE / "bin" / Path(package.partition("@")[0]).name
            check_sums(made_of(installed))
            installed.rename(CACHE / "bin" / name)
    complete = CACHE / "schemas" / "complete"
    contents = "\n".join([*KUBERNETES_VERSIONS, *CUSTOM_RESOURCES])
    if complete.is_file() and complete.read_text(encoding="utf-8") == contents:
        return
    for version in KUBERNETES_VERSIONS:
        with console.status(f"schemas of Kubernetes {version}"):
            swagger = module(f"k8s.io/kubernetes@v{version}") / "api" / "openapi-spec" / "swagger.json"
            schemas = kubernetes_schemas(json.loads(swagger.read_text(encoding="utf-8")))
            _write(CACHE / "schemas" / f"v{version}", schemas)
    for name in CUSTOM_RESOURCES:
        with console.status(f"schemas of {name}"):
            for definition in custom_resource_definitions(name):
                _write(CACHE / "schemas" / "custom", custom_schemas(definition))
    complete.write_text(contents, encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
