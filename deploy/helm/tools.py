"""What the tests under tests/deploy need: `python -m deploy.helm.tools` builds programs, and caches schemas.

All of it comes as Go modules into .cache/helm, where the tests look for it: programs at the versions, and with the
checksums, of deploy/locks/go/NAME, modules that are read as files with those of deploy/locks/go/modules.sum. Needs Go;
compiling helm takes some minutes.
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

_LOCKS = _PROJECT / "deploy" / "locks" / "go"
_PROGRAMS = {
    "helm": "helm.sh/helm/v3/cmd/helm",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
    # What Docker Compose itself reads its files with.
    "compose-config": "github.com/compose-spec/compose-go/v2/cmd",
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
    "github.com/cert-manager/cert-manager@v1.21.2": "deploy/crds",
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
    """Path of helm or another program: the cached one, or the machine's; None where there is neither.

    A cached one of another version than the one that stands here does not count.
    """
    return str(CACHE / "bin" / name) if _is_built(name) else shutil.which(name)


def missing(*programs: str) -> str:
    """Why the tests that need these programs, and the schemas for kubeconform, cannot run; empty where they can."""
    lacking = [name for name in programs if program(name) is None]
    if "kubeconform" in programs and not _has_schemas():
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
    found = f"{answer['Path']} {answer['Version']} {answer['Sum']}"
    if found not in (_LOCKS / "modules.sum").read_text(encoding="utf-8").splitlines():
        raise RuntimeError(f"{name}: expected its line of deploy/locks/go/modules.sum, found {found}")
    return Path(answer["Dir"])


def custom_resource_definitions(name: str) -> Iterator[Schema]:
    """The CustomResourceDefinitions of one of `CUSTOM_RESOURCES`."""
    for path in sorted((module(name) / CUSTOM_RESOURCES[name]).glob("*.yaml")):
        for definition in yaml.load_all(path.read_text(encoding="utf-8"), _Loader):
            if definition and definition["kind"] == "CustomResourceDefinition":
                yield definition


def _environment() -> dict[str, str]:
    return {**os.environ, "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}


def _write(folder: Path, schemas: Iterator[tuple[str, Schema]]) -> None:
    for name, schema in schemas:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(schema), encoding="utf-8")


def _command(name: str) -> list[str]:
    return ["go", "build", f"-ldflags=-s -w {_HELM_KUBERNETES}", f"-o={CACHE / 'bin' / name}", _PROGRAMS[name]]


def _is_built(name: str) -> bool:
    """Whether a program is cached as it would be built now."""
    built = CACHE / "bin" / f"{name}.built"
    return name in _PROGRAMS and built.is_file() and built.read_text(encoding="utf-8") == _record(name)


def _record(name: str) -> str:
    """What a program is made of: how it is built, and the versions and checksums of its modules."""
    return "\n".join([*_command(name), *((_LOCKS / name / file).read_text("utf-8") for file in ("go.mod", "go.sum"))])


def build(name: str) -> None:
    """Builds helm or another program into the cache. Raises `CalledProcessError` where Go cannot."""
    built = CACHE / "bin" / f"{name}.built"
    built.parent.mkdir(parents=True, exist_ok=True)
    built.unlink(missing_ok=True)
    subprocess.run(_command(name), cwd=_LOCKS / name, env=_environment(), check=True)
    built.write_text(_record(name), encoding="utf-8")


def _schemas_wanted() -> str:
    return "\n".join([*KUBERNETES_VERSIONS, *CUSTOM_RESOURCES])


def _has_schemas() -> bool:
    complete = CACHE / "schemas" / "complete"
    return complete.is_file() and complete.read_text(encoding="utf-8") == _schemas_wanted()


def main() -> None:
    """Build helm, kubeconform and the reader of compose files, and cache schemas; what is there already stays."""
    if shutil.which("go") is None:
        raise SystemExit("expected Go on PATH, found none")
    for name, package in _PROGRAMS.items():
        if not _is_built(name):
            with console.status(f"building {package}"):
                build(name)
    if _has_schemas():
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
    (CACHE / "schemas" / "complete").write_text(_schemas_wanted(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
