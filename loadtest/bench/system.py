"""The system under test: the real processes of a profile, as `perception up` starts them, and what they use."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from loadtest.bench.run import Run
from loadtest.plan import Closed, Open, Plan, Streams
from loadtest.result import Result
from loadtest.run import measure
from loadtest.sources import Frames
from loadtest.watched import Watched
from services.stack.layout import Ports, processes, triton_environment
from services.stack.session import StackOptions, build_models
from services.stack.supervisor import StackError, Supervisor, interruptible, require_free
from services.stack.triton import triton_runs_here

MODELS, SERVER = "models in Triton", "Triton's server"
"""What the processes of Triton are called here: those that run models, and the one that answers for them."""


@dataclass(frozen=True)
class System:
    """A running system. roots: process ids by service, Triton's with its models below it."""

    profile: str
    repository: Path
    ports: Ports
    roots: Mapping[str, int]

    @property
    def gateway(self) -> str:
        """The gateway's address."""
        return f"127.0.0.1:{self.ports.gateway}"

    @property
    def triton(self) -> str:
        """Triton's gRPC address."""
        return f"127.0.0.1:{self.ports.triton.grpc}"

    def cpu(self) -> dict[str, float]:
        """CPU time used so far in ms, by service, `MODELS` and `SERVER`."""
        used = {name: cpu_ms(pid) for name, pid in self.roots.items() if name != "triton"}
        models = psutil.Process(self.roots["triton"]).children(recursive=True)
        return used | {SERVER: cpu_ms(self.roots["triton"]), MODELS: sum(cpu_ms(each.pid) for each in models)}

    def drive(self, load: Open | Closed | Streams, frames: Frames, seconds: float, seed: int = 0) -> Result:
        """What the load test finds with a load on this system, after a second of warming up."""
        plan = Plan(address=self.gateway, load=load, seconds=seconds, warmup_seconds=1, processes=1, seed=seed)
        return measure(plan, frames, Watched(list(self.roots.values())))

    def private_bytes(self, service: str) -> int:
        """Memory of a service that it shares with no other process."""
        return int(psutil.Process(self.roots[service]).memory_full_info().uss)


def cpu_ms(pid: int) -> float:
    """CPU time that the threads of a process have used so far, in ms; finer than /proc/<pid>/stat tells it."""
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds += int(thread.read_text().split()[0])
    return nanoseconds / 1e6


@contextmanager
def system(run: Run, profile: str, settings: Mapping[str, Mapping[str, str]] | None = None) -> Iterator[System]:
    """The system with a profile's models, for the length of the block.

    settings: environment variables by service that differ from their defaults. Raises `StackError` where it cannot
    start.
    """
    usable, reason = triton_runs_here(triton_environment())
    if not usable:
        raise StackError(f"Triton does not run here: {reason}")
    options = StackOptions(profile, "triton", run.port_base)
    ports = Ports(run.port_base)
    require_free(ports.all())
    build_models(options)
    specs = [
        replace(spec, env={**spec.env, **(settings or {}).get(spec.name, {})})
        for spec in processes(options.repository, options.taxonomy, "triton", ports, options.run_directory)
    ]
    with interruptible(), Supervisor(specs, options.run_directory / "logs") as supervisor:
        with run.progress(f"starting {profile}", len(specs)) as advance:
            supervisor.start(lambda name: advance())
        yield System(
            profile, options.repository, ports, {spec.name: supervisor.process(spec.name).pid for spec in specs}
        )


class Meter:
    """CPU time of a system's processes and wall time, between its making and now."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._before = system.cpu()
        self._started = time.monotonic()

    def read(self) -> tuple[dict[str, float], float]:
        """CPU time in ms, as `System.cpu` names it, and seconds."""
        after = self._system.cpu()
        used = {name: after[name] - self._before.get(name, 0.0) for name in after}
        return used, time.monotonic() - self._started
