"""Starts a camera agent as its own process for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import yaml
from perception import TLS
from perception.connections import open_channel
from perception.v1 import camera_pb2, camera_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from tests.support.service import PROJECT, resident_megabytes
from tests.support.triton import free_ports


class AgentProcess:
    """`perception camera run` on free ports. tls: how this test calls it."""

    def __init__(
        self, directory: Path, gateway: str, cameras: list[dict[str, Any]], tls: TLS | None = None, **environment: str
    ) -> None:
        self._tls = tls
        self.port, self.metrics_port = free_ports(2)
        config = directory / "cameras.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "gateway": gateway,
                    "host": "127.0.0.1",
                    "port": self.port,
                    "metrics_port": self.metrics_port,
                    "cameras": cameras,
                }
            )
        )
        self._log = (directory / "agent.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.camera.cli", "run", str(config)],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stderr=self._log,
            # Nothing of this test's proxies or settings.
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(directory),
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                **environment,
            },
        )

    def __enter__(self) -> AgentProcess:
        self.channel = open_channel(f"127.0.0.1:{self.port}", (), self._tls)
        self.stub = camera_pb2_grpc.CameraServiceStub(self.channel)
        try:
            grpc.channel_ready_future(self.channel).result(60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def camera(self, name: str = "gate") -> camera_pb2.CameraStatus:
        cameras = self.stub.ListCameras(camera_pb2.ListCamerasRequest(), timeout=20).cameras
        return next(camera for camera in cameras if camera.name == name)

    def until(self, holds: Callable[[camera_pb2.CameraStatus], bool], name: str = "gate", seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not holds(self.camera(name)):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, f"{self.camera(name)}\n{self.log()}"
            time.sleep(0.02)

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def metrics(self) -> dict[tuple[str, str, str], float]:
        """Samples of its metrics by name, camera, and state or result."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=20) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return {
            (sample.name, sample.labels["camera"], sample.labels.get("state") or sample.labels.get("result") or ""): (
                sample.value
            )
            for family in families
            for sample in family.samples
            if "camera" in sample.labels
        }

    def states_in_metrics(self, name: str = "gate") -> list[str]:
        """The states that its metrics say a camera is in; one, if they are right."""
        return [
            state
            for (metric, camera, state), value in self.metrics().items()
            if (metric, camera, value) == ("perception_camera_state", name, 1)
        ]

    def resident_megabytes(self) -> float:
        return resident_megabytes(self.process.pid)

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def children(self) -> list[str]:
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)
