"""Runs the real Triton on this machine: the server that the PyPI package `nvidia-pytriton` carries.

The server lives in a Python environment of its own, because it wants numpy 1. This module finds it, lays out a backend
directory, and says with which command line and environment to start it; who starts it is another module's business.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.runtime.shared_memory import SHARED_MEMORY

_PROJECT = Path(__file__).resolve().parents[2]
_BACKENDS = _PROJECT / "models" / "backends"

DEFAULT_ENVIRONMENT = _PROJECT / ".venv-triton"

_DESCRIBE_PYTHON = """
import importlib.metadata, json, sys, sysconfig
library = sysconfig.get_config_var("LIBDIR")
multiarch = sysconfig.get_config_var("MULTIARCH")
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "site_packages": sysconfig.get_path("platlib"),
    "library_directories": [library, "%s/%s" % (library, multiarch), sys.base_prefix + "/lib"],
    "packages": {found.name.lower(): found.version for found in importlib.metadata.distributions()},
}))
"""


@dataclass(frozen=True)
class TritonPorts:
    """Where a server listens on the loopback interface."""

    grpc: int = 8001
    http: int = 8000
    metrics: int = 8002


@dataclass(frozen=True)
class TritonCommand:
    """How to start one server: the arguments, the whole environment, the working directory.

    shared_memory_prefix: how the names of this server's regions in /dev/shm begin; see `remove_shared_memory`.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    shared_memory_prefix: str


class TritonNotUsable(RuntimeError):
    """Triton cannot run here; the message says why and what would help."""


@dataclass(frozen=True)
class _Installation:
    """The server's files inside a Python environment."""

    server: Path
    stub: Path
    python_backend: Path
    caches: Path
    env: Mapping[str, str]


def triton_runs_here(environment: Path = DEFAULT_ENVIRONMENT) -> tuple[bool, str]:
    """Whether the server of a Python environment starts on this machine, and if not, why.

    It loads the server and the process that runs Python backends, which proves glibc and libpython; about 0.3 s.
    """
    try:
        installation = _installation(environment)
        _prove_that_it_loads(installation)
    except TritonNotUsable as error:
        return False, str(error)
    return True, f"tritonserver of {environment}"


def triton_command(
    repository: Path,
    models: Sequence[str],
    run_directory: Path,
    ports: TritonPorts,
    environment: Path = DEFAULT_ENVIRONMENT,
    traces_url: str = "",
) -> TritonCommand:
    """Prepares `run_directory` for one server and says how to start it.

    Only `models` are loaded, under explicit model control. A model that does not load leaves the others served, and
    the server not ready. A run directory belongs to one server at a time: the names of its shared memory derive from
    it, so that a new server can clear away what a killed one left. traces_url: where the server sends its part of its
    callers' traces, by OTLP over HTTP, such as `http://localhost:4318/v1/traces`; empty: nowhere. Raises
    `TritonNotUsable`, and `FileNotFoundError` where the repository lacks a model.
    """
    installation = _installation(environment)
    for model in models:
        if not (repository / model).is_dir():
            raise FileNotFoundError(f"{repository}: expected a folder for model {model!r}, found none")
    run_directory.mkdir(parents=True, exist_ok=True)
    run_directory = run_directory.resolve()
    backends = _lay_out_backends(installation, run_directory / "backends")
    models_link = run_directory / "models"
    models_link.unlink(missing_ok=True)
    models_link.symlink_to(repository.resolve(), target_is_directory=True)
    prefix = f"perception_{hashlib.sha256(os.fsencode(run_directory)).hexdigest()[:12]}_"
    argv = [
        str(installation.server),
        # Relative to the working directory, because the server starts its backends through a shell and quotes no path.
        f"--model-repository={models_link.name}",
        f"--backend-directory={backends.name}",
        f"--cache-directory={installation.caches}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models),
        "--exit-on-error=false",
        "--strict-readiness=true",
        "--exit-timeout-secs=10",
        "--log-format=ISO8601",
        "--allow-gpu-metrics=false",
        # Clients notice a dead connection by keepalive; these let them ask every ten seconds.
        "--grpc-keepalive-permit-without-calls=1",
        "--grpc-http2-min-recv-ping-interval-without-data=5000",
    ]
    for protocol, port in (("grpc", ports.grpc), ("http", ports.http), ("metrics", ports.metrics)):
        argv += [f"--{protocol}-address=127.0.0.1", f"--{protocol}-port={port}"]
    if traces_url:
        argv += trace_arguments(traces_url)
    for backend in sorted(path.name for path in backends.iterdir()):
        argv += [
            f"--backend-config={backend},shm-region-prefix-name={prefix}",
            f"--backend-config={backend},shm-default-byte-size={1 << 20}",
            f"--backend-config={backend},shm-growth-byte-size={1 << 20}",
        ]
    # A frame runs all models at once. Models that each take every core wait for one another's threads: on two cores the
    # four of `demo` cost 378 ms of processor time a frame in ONNX Runtime and 243 in OpenVINO, with a thread each 353
    # and 188, and no fewer frames pass.
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, len(models)))
    env = {**installation.env, "MODEL_THREADS": str(threads)}
    return TritonCommand(tuple(argv), env, run_directory, prefix)


def trace_arguments(traces_url: str) -> list[str]:
    """tritonserver's arguments by which it sends its part of its callers' traces, and begins none by itself."""
    return [
        "--trace-config=mode=opentelemetry",
        f"--trace-config=opentelemetry,url={traces_url}",
        "--trace-config=opentelemetry,resource=service.name=triton",
        "--trace-config=opentelemetry,resource=service.namespace=perception",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=0",
    ]


def remove_shared_memory(prefix: str) -> int:
    """Deletes what a server left in /dev/shm. Returns how many regions there were.

    A server leaves none, even when it is killed, except those of model processes that were killed themselves. Call
    this only when the server with that prefix has ended: its model processes follow it within three seconds.
    """
    leftovers = list(SHARED_MEMORY.glob(f"{prefix}*"))
    for region in leftovers:
        region.unlink(missing_ok=True)
    return len(leftovers)


def _installation(environment: Path) -> _Installation:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise TritonNotUsable(
            f"Triton's binary is built for x86_64 Linux, this is {platform.machine()} {platform.system()}"
        )
    python = environment / "bin" / "python"
    if not python.exists():
        raise TritonNotUsable(f"{environment} holds no Python environment with nvidia-pytriton")
    try:
        answer = subprocess.run(
            [python, "-I", "-c", _DESCRIBE_PYTHON], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise TritonNotUsable(f"{python} does not run: {error}") from error
    description = json.loads(answer.stdout)
    packages = description["packages"]
    for name in ("nvidia-pytriton", "numpy", "onnxruntime", "openvino"):
        if name not in packages:
            raise TritonNotUsable(f"{environment} lacks the package {name}")
    if not packages["numpy"].startswith("1."):
        # With numpy 2 Triton's python backend answers tensors of 0 bytes, without an error.
        raise TritonNotUsable(f"{environment} has numpy {packages['numpy']}, nvidia-pytriton needs numpy 1")
    site_packages = Path(description["site_packages"])
    root = site_packages / "pytriton" / "tritonserver"
    stub = root / "python_backend_stubs" / description["version"] / "triton_python_backend_stub"
    if not stub.is_file():
        found = ", ".join(sorted(path.name for path in stub.parents[1].iterdir()))
        version = description["version"]
        raise TritonNotUsable(f"nvidia-pytriton runs backends on Python {found}; {environment} has {version}")
    libraries = [site_packages / "nvidia_pytriton.libs", *map(Path, description["library_directories"])]
    return _Installation(
        server=root / "bin" / "tritonserver",
        stub=stub,
        python_backend=root / "backends" / "python",
        caches=root / "caches",
        env={
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(str(path) for path in libraries if path.is_dir()),
            "PATH": f"{python.parent}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(site_packages),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


def _prove_that_it_loads(installation: _Installation) -> None:
    # The stub takes nine arguments; without them it says so, which shows that it found libpython.
    for program in (installation.server, installation.stub):
        command = [str(program), "--help"]
        ran = subprocess.run(command, env=dict(installation.env), capture_output=True, text=True, timeout=30)
        # The dynamic loader answers 127 where a library is missing, and 1 where one of its versions is.
        if ran.returncode == 127 or "GLIBC" in ran.stderr:
            raise TritonNotUsable(f"{program.name} does not load: {ran.stderr.strip().splitlines()[-1]}")


def _lay_out_backends(installation: _Installation, directory: Path) -> Path:
    """Makes Triton's backend directory: its python backend, and this project's backends that build on it.

    They are copies, 4 MB, because Triton refuses libraries that are links to outside of its backend directory.
    """
    shutil.rmtree(directory, ignore_errors=True)
    python_backend = directory / "python"
    python_backend.mkdir(parents=True)
    for source in (*installation.python_backend.glob("*.*"), installation.stub):
        shutil.copy2(source, python_backend)
    for source in sorted(_BACKENDS.glob("*/model.py")):
        backend = directory / source.parent.name
        backend.mkdir()
        shutil.copy2(source, backend)
        shutil.copy2(_BACKENDS / "graph_backend.py", backend)
    return directory
