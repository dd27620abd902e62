"""Starts a real Prometheus for tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.triton import free_ports


@dataclass(frozen=True)
class Target:
    """One process to scrape. labels: those that a cluster's PodMonitor would give it."""

    port: int
    labels: Mapping[str, str]


class Prometheus:
    """A Prometheus process that scrapes targets every second under job="perception", and evaluates rules as often."""

    def __init__(self, directory: Path, targets: Sequence[Target], rules: Mapping[str, Any]) -> None:
        self._directory = directory
        self._port = free_ports(1)[0]
        (directory / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
        scraped = [{"targets": [f"127.0.0.1:{one.port}"], "labels": dict(one.labels)} for one in targets]
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "perception", "static_configs": scraped}],
        }
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(configuration))

    def __enter__(self) -> Prometheus:
        command = [
            str(shutil.which("prometheus")),
            f"--config.file={self._directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while not self._is_ready():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def log(self) -> str:
        return (self._directory / "prometheus.log").read_text()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: labels under `metric`, time and value under `value`."""
        result: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return result

    def seen(self, expression: str, since: float) -> list[dict[str, str]]:
        """The labels of all series that an expression had at any second since then."""
        found = self._get("query_range", query=expression, start=since, end=time.time(), step=1)["result"]
        return [series["metric"] for series in found]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are pending or firing, with their annotations."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def _get(self, path: str, **parameters: str | float) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=1):
                return True
        except OSError:
            return False
