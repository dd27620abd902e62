"""The programs of a Kubernetes control plane: `python -m tests.cluster.programs` builds them into .cache/cluster.

kube-apiserver, kube-controller-manager, kube-scheduler, kubectl and KWOK are compiled from Go modules at the versions
that stand here; etcd is Debian's `etcd-server`. Needs Go, 4 GB for what is compiled, and about ten minutes of two cores
the first time.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deploy.helm import tools

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "cluster"
KUBERNETES = tools.KUBERNETES_VERSIONS[-1]
KWOK = "0.8.0"
_PACKAGES = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
}
# The parts of KWOK's own description of how nodes and Pods behave that simulate a start in steps.
_STAGES = ("kustomize/stage/node/fast", "kustomize/stage/node/heartbeat-with-lease", "kustomize/stage/pod/general")

console = Console(stderr=True)


def program(name: str) -> str:
    """Path of a program that `missing` does not name."""
    return str(CACHE / "bin" / name) if name in _PACKAGES else str(tools.program(name) or shutil.which(name))


def missing() -> str:
    """Why the cluster cannot start; empty where it can."""
    lacking = [name for name in _PACKAGES if not (CACHE / "bin" / name).is_file()]
    if not _is_complete():
        lacking.append("definitions of custom resources")
    reasons = [f"{', '.join(lacking)} missing: python -m tests.cluster.programs"] if lacking else []
    if tools.program("helm") is None:
        reasons.append(tools.missing("helm"))
    if shutil.which("etcd") is None:
        reasons.append("etcd missing: Debian's package etcd-server")
    return "; ".join(reasons)


def custom_resources() -> Path:
    """Folder of the CustomResourceDefinitions that the chart may need, a YAML file each."""
    return CACHE / "definitions"


def stages() -> list[dict[str, Any]]:
    """KWOK's description of how nodes and Pods behave."""
    return [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((CACHE / "stages").glob("*.yaml"))]


def _contents() -> str:
    return "\n".join([KUBERNETES, KWOK, *tools.CUSTOM_RESOURCES])


def _is_complete() -> bool:
    complete = CACHE / "complete"
    return complete.is_file() and complete.read_text(encoding="utf-8") == _contents()


def _go_module(kubernetes: Path) -> str:
    """A go.mod that builds Kubernetes out of published modules.

    Its own takes the modules of k8s.io out of its source tree; they are published too, as 0.37.0 for Kubernetes 1.37.0.
    """
    own = (kubernetes / "go.mod").read_text(encoding="utf-8")
    published = "v0" + KUBERNETES.removeprefix("1")
    own = own.replace("module k8s.io/kubernetes\n", "module cluster\n")
    own = re.sub(r"(k8s\.io/\S+) => \./staging/src/\S+", rf"\1 => \1 {published}", own)
    return f"{own}\nrequire (\n\tk8s.io/kubernetes v{KUBERNETES}\n\tsigs.k8s.io/kwok v{KWOK}\n)\n"


def _version_flags() -> str:
    major, minor, _ = KUBERNETES.split(".")
    values = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in values.items())


def _environment() -> dict[str, str]:
    return {**os.environ, "GOFLAGS": "-mod=mod -buildvcs=false", "CGO_ENABLED": "0"}


def _build(kubernetes: Path) -> None:
    """Compiles all programs at once. Raises `RuntimeError` with what Go said last where it cannot."""
    folder = CACHE / "build"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text(_go_module(kubernetes), encoding="utf-8")
    shutil.copyfile(kubernetes / "go.sum", folder / "go.sum")
    packages = list(_PACKAGES.values())
    with console.status("fetching the modules of Kubernetes"):
        listed = _go(folder, "list", "-deps", *packages).split()
    flags = ["-v", "-trimpath", f"-ldflags=-s -w {_version_flags()}", "-o", f"{CACHE / 'bin'}/"]
    command = ["go", "build", *flags, *packages]
    columns = (TextColumn("compiling Kubernetes"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    said: list[str] = []
    with (
        Progress(*columns, console=console) as progress,
        subprocess.Popen(command, cwd=folder, env=_environment(), stderr=subprocess.PIPE, text=True) as process,
    ):
        task = progress.add_task("", total=len(listed))
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            progress.advance(task)
        progress.update(task, completed=len(listed) if process.wait() == 0 else None)
    if process.returncode:
        raise RuntimeError("go build failed:\n" + "".join(said[-20:]))


def _go(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(
        ["go", *arguments], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise RuntimeError(f"go {' '.join(arguments[:2])} failed:\n{ran.stderr}")
    return ran.stdout


def _definitions() -> Iterator[tuple[str, Any]]:
    for module in tools.CUSTOM_RESOURCES:
        for definition in tools.custom_resource_definitions(module):
            yield definition["metadata"]["name"], definition


def _stage_files() -> Iterator[tuple[str, Any]]:
    kwok = tools.module(f"sigs.k8s.io/kwok@v{KWOK}")
    for folder in _STAGES:
        for path in sorted((kwok / folder).glob("*.yaml")):
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            if found["kind"] == "Stage":
                yield path.stem, found


def _write(folder: Path, files: Iterator[tuple[str, Any]]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files:
        # JSON is YAML, too, and quotes what YAML would read otherwise.
        (folder / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")


def main() -> None:
    """Build what `make test-cluster` runs into .cache/cluster; what is there already stays."""
    if shutil.which("go") is None:
        raise SystemExit("expected Go on PATH, found none")
    tools.CACHE.mkdir(parents=True, exist_ok=True)
    if not _is_complete() or any(not (CACHE / "bin" / name).is_file() for name in _PACKAGES):
        _build(tools.module(f"k8s.io/kubernetes@v{KUBERNETES}"))
        with console.status("definitions of custom resources"):
            _write(CACHE / "definitions", _definitions())
            _write(CACHE / "stages", _stage_files())
        (CACHE / "complete").write_text(_contents(), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
