"""Starts what a compose file says, out of images unpacked on this machine, as far as one without Docker can.

Each service has a loopback address of its own, which its name and `localhost` stand for in its /etc/hosts.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from deploy.docker.images import FOLDER
from deploy.helm.chart_documents import CHART
from tests.deploy.docker.compose import Service
from tests.support.container import USER, UnpackedImage
from tests.support.service import eventually

_NETWORK = "127.83.0."
_START_SECONDS = 120.0
_PROMETHEUS_PORT = 9090


class Composition:
    """The services of ours in a compose file, running. Needs root."""

    def __init__(self, services: dict[str, Service], image: UnpackedImage, models: UnpackedImage, folder: Path) -> None:
        self.services = {name: one for name, one in services.items() if one["image"].startswith("perception-services")}
        self._all = services
        self._image, self._models, self._folder = image, models, folder
        self._addresses = {
            name: f"{_NETWORK}{number}" for number, name in enumerate((*self.services, "prometheus"), 10)
        }
        self._processes: dict[str, subprocess.Popen[Any]] = {}

    def __enter__(self) -> Composition:
        for folder in (self._folder, *self._folder.parents[:2]):
            folder.chmod(0o755)
        repository = self._folder / "models"
        repository.mkdir()
        shutil.chown(repository, USER, USER)
        copied = self._models.run(
            self._all["model-repository"]["command"], volumes={"/model-repository": (repository, True)}
        )
        assert copied.returncode == 0, copied.stderr
        self._volumes = {"/models": repository, "/etc/perception": self._folder / "etc"}
        self._volumes["/etc/perception"].mkdir()
        shutil.copy(FOLDER / "cameras.yaml", self._volumes["/etc/perception"])
        try:
            for name in sorted(self.services, key=lambda name: name == "camera"):
                for needed, how in (self.services[name].get("depends_on") or {}).items():
                    if how["condition"] == "service_healthy":
                        self.wait_until_healthy(needed)
                self._start(name)
            self._start_prometheus()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()  # what it started dies with it
            process.wait()

    def address(self, name: str, port: int) -> str:
        """Where a service listens on this machine."""
        return f"{self._addresses[name]}:{port}"

    def log(self, name: str) -> str:
        """What it said."""
        return (self._folder / f"{name}.log").read_text()

    def wait_until_healthy(self, name: str) -> None:
        """Waits until its health check passes. Fails where it does not in time, with what the check and it said."""
        test = self.services[name]["healthcheck"]["test"]
        assert test[0] == "CMD"
        end = time.monotonic() + _START_SECONDS
        while (ran := self._image.run(test[1:], **self._settings(name))).returncode:
            assert self._processes[name].poll() is None, self.log(name)
            assert time.monotonic() < end, f"{name}: {ran.stderr}\n{self.log(name)}"
            time.sleep(0.5)

    def wait_for_metric(self, name: str, port: int, line: str) -> None:
        """Waits until a service exports that line."""

        def exported() -> bool:
            with urllib.request.urlopen(f"http://{self.address(name, port)}/metrics", timeout=10) as answer:
                return f"\n{line}\n" in answer.read().decode()

        eventually(exported, _START_SECONDS)

    def prometheus(self, expression: str) -> list[dict[str, Any]]:
        """What the Prometheus of the compose file answers, once all its targets were scraped."""

        def query(expression: str) -> list[dict[str, Any]]:
            parameters = urllib.parse.urlencode({"query": expression})
            address = self.address("prometheus", _PROMETHEUS_PORT)
            with urllib.request.urlopen(f"http://{address}/api/v1/query?{parameters}", timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

        eventually(lambda: len(query("up == 1")) == len(self.services), _START_SECONDS)
        return query(expression)

    def stop(self) -> dict[str, int]:
        """Tells every service to stop, and waits as long as its grace period. Returns their exit statuses."""
        for name in self.services:
            # The service is the one child of what isolates it, and the first process of its container.
            pid = self._processes[name].pid
            (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            subprocess.run(["kill", f"-{signal.SIGTERM}", child], check=True)
        return {
            name: self._processes[name].wait(_seconds(one["stop_grace_period"])) for name, one in self.services.items()
        }

    def _start(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = self._image.popen(
                self.services[name]["command"], **self._settings(name), stdout=log, stderr=log
            )

    def _settings(self, name: str) -> dict[str, Any]:
        hosts = self._folder / f"{name}.hosts"
        names = {**self._addresses, "localhost": self._addresses[name]}
        hosts.write_text("".join(f"{address} {one}\n" for one, address in names.items()))
        mounted = {
            Path(one["target"]).parent if Path(one["target"]).suffix else Path(one["target"])
            for one in self._mounts(name)
        }
        volumes = {str(folder): (self._volumes[str(folder)], False) for folder in mounted}
        environment = {**self.services[name]["environment"], "HOST": self._addresses[name]}
        return {"environment": environment, "volumes": {**volumes, "/etc/hosts": (hosts, False)}}

    def _mounts(self, name: str) -> list[dict[str, Any]]:
        return self.services[name].get("volumes") or []

    def _start_prometheus(self) -> None:
        """With the compose file's own configuration, and the names of its services."""
        configuration = self._folder / "prometheus"
        shutil.copytree(FOLDER / "prometheus", configuration)
        (configuration / "targets/triton.yaml").unlink()  # only compose.gpu.yaml mounts it
        shutil.copytree(CHART / "rules", configuration / "rules")
        hosts = self._folder / "prometheus.hosts"
        hosts.write_text("".join(f"{address} {name}\n" for name, address in self._addresses.items()))
        command = f"""
            mount --bind {hosts} /etc/hosts
            exec prometheus --config.file={configuration}/prometheus.yaml --storage.tsdb.path={self._folder}/data \
                --web.listen-address={self.address("prometheus", _PROMETHEUS_PORT)}
        """
        with (self._folder / "prometheus.log").open("wb") as log:
            self._processes["prometheus"] = subprocess.Popen(
                ["unshare", "--mount", "--propagation=private", "--fork", "--kill-child", "sh", "-c", command],
                stdout=log,
                stderr=log,
            )


def _seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])
