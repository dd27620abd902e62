from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from services.stack.triton import (
    DEFAULT_ENVIRONMENT,
    TritonNotUsable,
    TritonPorts,
    remove_shared_memory,
    triton_command,
    triton_runs_here,
)

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def environment() -> Path:
    found = Path(os.environ.get("TRITON_ENVIRONMENT", DEFAULT_ENVIRONMENT))
    if not found.is_dir():
        pytest.skip(f"{found} is missing: no Triton server")
    return found


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("detection", "classification"):
        (tmp_path / "repository" / name).mkdir(parents=True)
    return tmp_path / "repository"


def test_the_server_of_this_machine_runs(environment: Path) -> None:
    runs, reason = triton_runs_here(environment)
    assert runs, reason
    assert str(environment) in reason


def test_the_command_line(environment: Path, repository: Path, tmp_path: Path) -> None:
    ports = TritonPorts(grpc=9001, http=9000, metrics=9002)
    command = triton_command(repository, ["detection", "classification"], tmp_path / "run", ports, environment)
    assert command.argv[0].endswith("/bin/tritonserver")
    for argument in (
        "--load-model=detection",
        "--load-model=classification",
        "--model-control-mode=explicit",
        "--grpc-port=9001",
        "--http-port=9000",
        "--metrics-port=9002",
        "--grpc-address=127.0.0.1",
        "--allow-gpu-metrics=false",
        f"--backend-config=onnxruntime,shm-region-prefix-name={command.shared_memory_prefix}",
    ):
        assert argument in command.argv
    assert command.cwd == tmp_path / "run"
    assert (command.cwd / "models").resolve() == repository.resolve()
    cores = len(os.sched_getaffinity(0))
    assert command.env["MODEL_THREADS"] == str(max(1, cores // 2))
    backends = command.cwd / "backends"
    assert {path.name for path in backends.iterdir()} == {"python", "onnxruntime", "openvino"}
    for name in ("onnxruntime", "openvino"):
        assert {path.name for path in (backends / name).iterdir()} == {"model.py", "graph_backend.py"}
    assert os.access(command.cwd / "backends" / "python" / "triton_python_backend_stub", os.X_OK)
    assert command.env["PATH"].startswith(str(environment / "bin"))
    # Preparing it again, as the next start does, is no different.
    assert triton_command(repository, ["detection", "classification"], tmp_path / "run", ports, environment) == command


def test_two_run_directories_share_no_memory(environment: Path, repository: Path, tmp_path: Path) -> None:
    prefixes = {
        triton_command(repository, ["detection"], tmp_path / name, TritonPorts(), environment).shared_memory_prefix
        for name in ("one", "two")
    }
    assert len(prefixes) == 2


def test_a_model_that_is_not_there_is_named(environment: Path, repository: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder for model 'pose', found none"):
        triton_command(repository, ["detection", "pose"], tmp_path / "run", TritonPorts(), environment)


def test_without_an_environment_it_says_why(tmp_path: Path, repository: Path) -> None:
    runs, reason = triton_runs_here(tmp_path)
    assert not runs
    assert "holds no Python environment with nvidia-pytriton" in reason
    with pytest.raises(TritonNotUsable, match="holds no Python environment"):
        triton_command(repository, ["detection"], tmp_path / "run", TritonPorts(), tmp_path)


def test_an_environment_without_the_server_says_what_it_lacks(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "empty"], check=True)
    assert triton_runs_here(tmp_path / "empty") == (False, f"{tmp_path / 'empty'} lacks the package nvidia-pytriton")


def test_numpy_2_in_the_server_s_environment_is_refused(environment: Path, tmp_path: Path) -> None:
    """It answers tensors of 0 bytes without an error."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "mixed"], check=True)
    packages = next((tmp_path / "mixed").glob("lib/python*/site-packages"))
    versions = {"nvidia-pytriton": "0.7.0", "numpy": "2.4.6", "onnxruntime": "1.31.1", "openvino": "2026.4.1"}
    for name, version in versions.items():
        metadata = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    runs, reason = triton_runs_here(tmp_path / "mixed")
    assert not runs
    assert "has numpy 2.4.6, nvidia-pytriton needs numpy 1" in reason


def test_other_machines_are_told_apart(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert triton_runs_here(environment) == (
        False,
        "Triton's binary is built for x86_64 Linux, this is arm64 Darwin",
    )


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="no /dev/shm on this machine")
def test_only_the_memory_of_one_server_is_removed() -> None:
    prefix = f"perception_test_{os.getpid()}_"
    ours = [SHARED_MEMORY / f"{prefix}{name}" for name in ("a", "b")]
    other = SHARED_MEMORY / f"perception_test_{os.getpid()}other"
    try:
        for region in (*ours, other):
            region.write_bytes(b"1")
        assert remove_shared_memory(prefix) == 2
        assert not any(region.exists() for region in ours)
        assert other.exists()
        assert remove_shared_memory(prefix) == 0
    finally:
        other.unlink()
