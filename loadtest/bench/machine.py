"""On what a benchmark ran, and how busy others kept it meanwhile."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.stack.layout import PROJECT, triton_environment

_PACKAGES = (
    "grpcio",
    "protobuf",
    "tritonclient",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "pycocotools",
    "onnxruntime",
)
_TRITON_PACKAGES = ("nvidia-pytriton", "onnxruntime", "openvino", "numpy")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
"""What the runtimes choose their kernels by."""

_LIST_PACKAGES = """
import importlib.metadata, json
print(json.dumps({found.name.lower(): found.version for found in importlib.metadata.distributions()}))
"""


class Machine(BaseModel):
    """A machine while a part ran.

    cpu: the processor's name. cores: those that this process may use. flags: its instruction sets that matter to the
    runtimes. memory: in GiB. revision: the project's commit, with "+" where files differ from it. load_average: of the
    minute before the part began. others: cores that processes outside of the benchmark kept busy, on average.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory: float
    system: str
    versions: dict[str, str]
    revision: str
    load_average: float
    others: float


class MachineWatch:
    """Looks at the machine when made, and again when asked what it was like."""

    def __init__(self) -> None:
        self._load_average = os.getloadavg()[0]
        self._at = time.monotonic()
        self._busy, self._own = _busy_seconds(), _own_seconds()

    def machine(self) -> Machine:
        """The machine since then. Counts only those of the benchmark's processes that have ended, and this one."""
        elapsed = time.monotonic() - self._at
        foreign = _busy_seconds() - self._busy - (_own_seconds() - self._own)
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Machine(
            cpu=_cpu_field("model name") or platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            flags=tuple(flag for flag in _FLAGS if flag in _cpu_field("flags").split()),
            memory=round(pages / 2**30, 1),
            system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
            versions=_versions(),
            revision=_revision(),
            load_average=round(self._load_average, 2),
            others=round(max(0.0, foreign / elapsed), 2),
        )


def _busy_seconds() -> float:
    """CPU time of all processes since the machine started."""
    first = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _, _, interrupts, soft_interrupts = map(int, first[:7])
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """CPU time of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _cpu_field(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _versions() -> dict[str, str]:
    here = {name: found for name in _PACKAGES if (found := _version(name))}
    triton = {f"{name} (Triton)": found for name, found in _packages_of_triton().items() if name in _TRITON_PACKAGES}
    return here | triton


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages_of_triton() -> dict[str, Any]:
    listed = _output([str(triton_environment() / "bin" / "python"), "-I", "-c", _LIST_PACKAGES])
    packages: dict[str, Any] = json.loads(listed or "{}")
    return packages


def _revision() -> str:
    commit = _output(["git", "rev-parse", "--short", "HEAD"])
    changed = _output(["git", "status", "--porcelain", "--untracked-files=no"])
    return commit + "+" * bool(changed)


def _output(command: Iterable[str]) -> str:
    """What a program prints; nothing where it does not run."""
    try:
        return subprocess.run(list(command), cwd=PROJECT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
