"""Which processes make up the system on one machine, where they listen, and what each is told."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from services.runtime.engines.shared_slots import remove_leftovers
from services.runtime.shared_memory import SHARED_MEMORY
from services.stack.triton import DEFAULT_ENVIRONMENT, TritonPorts, remove_shared_memory, triton_command

PROJECT = Path(__file__).resolve().parents[2]
TASKS = ("detection", "instance_segmentation", "semantic_segmentation", "classification")

EngineKind = Literal["triton", "onnxruntime"]

_TRITON = 5
_CAMERA = 8
_VIEWER = 9
_METRICS = 10
_WITH_METRICS = ("gateway", *TASKS, "camera", "viewer")


@dataclass(frozen=True)
class Ports:
    """The ports of a stack: the gateway's first, every other process's after it."""

    base: int

    @property
    def gateway(self) -> int:
        """gRPC port of the gateway."""
        return self.base

    def task(self, task: str) -> int:
        """gRPC port of a task service."""
        return self.base + 1 + TASKS.index(task)

    def metrics(self, service: str) -> int:
        """HTTP port of a service's /metrics."""
        return self.base + _METRICS + _WITH_METRICS.index(service)

    @property
    def camera(self) -> int:
        """gRPC port of the camera agent."""
        return self.base + _CAMERA

    @property
    def viewer(self) -> int:
        """HTTP port of the page on which a person watches cameras."""
        return self.base + _VIEWER

    @property
    def triton(self) -> TritonPorts:
        """Triton's ports."""
        return TritonPorts(*(self.base + _TRITON + offset for offset in range(3)))

    def all(self) -> list[int]:
        """Every port of the stack."""
        triton = self.triton
        return [
            *(self.gateway, triton.grpc, triton.http, triton.metrics, self.camera, self.viewer),
            *(self.task(task) for task in TASKS),
            *(self.metrics(service) for service in _WITH_METRICS),
        ]


@dataclass(frozen=True)
class ProcessSpec:
    """How to start one process, and where it says whether it is well.

    health: address of the standard gRPC health service, or the URL of a page; None for Triton, whose health shows in
        its tasks'.
    clear: removes what the process leaves behind when it is killed.
    liveness: likewise where it says whether it is alive; None where `health` says that too.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    health: str | None
    clear: Callable[[], object] = lambda: None
    liveness: str | None = None


def triton_environment() -> Path:
    """The Python environment that carries tritonserver: TRITON_ENVIRONMENT, or the project's own."""
    return Path(os.environ.get("TRITON_ENVIRONMENT", DEFAULT_ENVIRONMENT))


def tasks_in(repository: Path) -> list[str]:
    """The tasks that a model repository has a model for. Raises `FileNotFoundError` where it has none."""
    tasks = [task for task in TASKS if (repository / task / "config.pbtxt").is_file()]
    if not tasks:
        raise FileNotFoundError(f"{repository}: expected folders named after tasks ({', '.join(TASKS)}), found none")
    return tasks


def processes(
    repository: Path, taxonomy: str, engine: EngineKind, ports: Ports, run_directory: Path
) -> list[ProcessSpec]:
    """Every process of the system, in the order in which they start."""
    tasks = tasks_in(repository)
    triton = [triton_process(repository, tasks, ports.triton, run_directory)] if engine == "triton" else []
    return [*triton, *(_task(task, repository, engine, ports) for task in tasks), _gateway(tasks, taxonomy, ports)]


def watching(ports: Ports, agent_file: Path | None) -> list[ProcessSpec]:
    """The camera agent, where a file tells it of cameras, and the page on which a person watches them."""
    camera = f"127.0.0.1:{ports.camera}"
    viewer = _service(
        "viewer",
        ports.viewer,
        ports.metrics("viewer"),
        {"CAMERA_AGENTS": camera if agent_file else "", "GATEWAY_URL": f"127.0.0.1:{ports.gateway}"},
    )
    viewer = replace(viewer, health=f"http://127.0.0.1:{ports.viewer}/healthz")
    if agent_file is None:
        return [viewer]
    return [ProcessSpec("camera", camera_command(agent_file), _inherited(), PROJECT, health=camera), viewer]


def camera_command(agent_file: Path, *options: str) -> list[str]:
    """The command that runs the cameras of a file."""
    return [sys.executable, "-m", "services.cli", "camera", "run", str(agent_file.resolve()), *options]


def triton_process(repository: Path, models: Sequence[str], ports: TritonPorts, run_directory: Path) -> ProcessSpec:
    """A Triton that serves some models of a repository, as a process to supervise."""
    traces = os.environ.get("TRITON_TRACES_URL", "")
    command = triton_command(repository, models, run_directory / "triton", ports, triton_environment(), traces)
    return ProcessSpec(
        "triton",
        command.argv,
        command.env,
        command.cwd,
        health=None,
        clear=lambda: remove_shared_memory(command.shared_memory_prefix),
        liveness=f"http://127.0.0.1:{ports.http}/v2/health/live",
    )


def _task(task: str, repository: Path, engine: EngineKind, ports: Ports) -> ProcessSpec:
    service = _service(
        task,
        ports.task(task),
        ports.metrics(task),
        {
            "ENGINE": engine,
            "TRITON_URL": f"127.0.0.1:{ports.triton.grpc}",
            "TRITON_SHARED_MEMORY": "true",
            "RELOAD_DEAD_MODEL": "true",
            "MODEL_REPOSITORY": str(repository.resolve()),
            "MODEL_NAME": task,
            **_sharing(ports),
        },
    )
    return replace(service, clear=remove_leftovers)


def _gateway(tasks: Sequence[str], taxonomy: str, ports: Ports) -> ProcessSpec:
    addresses = {f"{task.upper()}_URL": f"127.0.0.1:{ports.task(task)}" for task in tasks}
    settings = {"TAXONOMY": taxonomy, **addresses, **_sharing(ports)}
    gateway = _service("gateway", ports.gateway, ports.metrics("gateway"), settings)
    return replace(gateway, clear=lambda: shutil.rmtree(_shared_pictures(ports), ignore_errors=True))


def _sharing(ports: Ports) -> dict[str, str]:
    """How the gateway shares decoded pictures with the task services, where the kernel has a place for that."""
    return {"SHARED_PICTURES_DIRECTORY": str(_shared_pictures(ports))} if SHARED_MEMORY.is_dir() else {}


def _shared_pictures(ports: Ports) -> Path:
    return SHARED_MEMORY / f"perception-{os.getuid()}-{ports.base}"


def _service(name: str, port: int, metrics_port: int, settings: Mapping[str, str]) -> ProcessSpec:
    env = {
        **_inherited(),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
    return ProcessSpec(name, [sys.executable, "-m", f"services.{name}"], env, PROJECT, health=f"127.0.0.1:{port}")


def _inherited() -> dict[str, str]:
    # Nothing else of the caller's own environment may slip into a service's settings by its name.
    names = ("PATH", "PYTHONPATH", "HOME", "XDG_CACHE_HOME", "LANG", "LOG_LEVEL")
    return {name: value for name, value in os.environ.items() if name in names or name.startswith("OTEL_")}
