"""Starts a service as its own process for tests."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

PROJECT = Path(__file__).resolve().parents[2]

# What grpcio itself prints where a call is cancelled in the moment in which its server stops.
GRPC_CANCELLATION = re.compile(
    r'Traceback \(most recent call last\):\n  File "src/python/grpcio/.*\nasyncio\.exceptions\.CancelledError\n'
)


class ServiceProcess:
    """`python -m services.<name>` on free ports, with these settings and nothing else of the caller's environment."""

    def __init__(self, name: str, directory: Path, **settings: object) -> None:
        self._log = directory / f"{name}_{time.monotonic_ns()}.log"
        environment = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
        environment |= {"HOST": "127.0.0.1", "PORT": "0", "METRICS_PORT": "0"}
        environment |= {"HEALTH_INTERVAL_SECONDS": "0.05", **{key: str(value) for key, value in settings.items()}}
        self.host = environment["HOST"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"services.{name}"],
                env=environment,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> ServiceProcess:
        serving = self.logged("serving")
        self.address = f"{self.host}:{serving['port']}"
        self.metrics_url = f"http://{self.host}:{serving['metrics_port']}/metrics"
        self.channel = grpc.insecure_channel(self.address)
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()

    def output(self) -> str:
        """All that the process wrote so far."""
        return self._log.read_text()

    def records(self) -> list[dict[str, Any]]:
        """The lines that it logged."""
        return [json.loads(line) for line in GRPC_CANCELLATION.sub("", self.output()).splitlines()]

    def logged(self, message: str) -> dict[str, Any]:
        """The first record with that message; waits for it."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.output()}")
            complete = self.output().rpartition("\n")[0].splitlines()
            found[:] = [record for record in map(json.loads, complete) if record["message"] == message]
            return bool(found)

        eventually(look)
        return found[0]

    def health(self, name: str = "") -> str:
        """What it says of its health, by name."""
        request = health_pb2.HealthCheckRequest(service=name)
        status = health_pb2_grpc.HealthStub(self.channel).Check(request, timeout=20).status
        return health_pb2.HealthCheckResponse.ServingStatus.Name(status)

    def wait_until_ready(self) -> ServiceProcess:
        """Waits until it says that it serves."""
        eventually(lambda: self.health() == "SERVING")
        return self

    def metrics(self) -> str:
        """What it exports to Prometheus."""
        with urllib.request.urlopen(self.metrics_url, timeout=20) as answer:
            return str(answer.read().decode())

    def resident_megabytes(self) -> float:
        """Memory that the process holds."""
        return resident_megabytes(self.process.pid)

    def peak_megabytes(self) -> float:
        """The most memory that the process ever held."""
        return peak_megabytes(self.process.pid)

    def terminate(self) -> None:
        """Tells it to stop, as an orchestrator does."""
        self.process.send_signal(signal.SIGTERM)


def resident_megabytes(pid: int) -> float:
    """Memory that a process holds, in units of 2**20 bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_megabytes(pid: int) -> float:
    """The most memory that a process ever held, in units of 2**20 bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits until it holds. Fails where it does not in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.02)
