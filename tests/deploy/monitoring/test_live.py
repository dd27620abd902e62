"""A real Prometheus scrapes the whole system on this machine: expressions find their series, and what is killed, and
nothing else, is told of.

The rules are the chart's own, with shorter times.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import simplejpeg
import yaml
from perception import PerceptionClient, PerceptionError

from deploy.monitoring.dashboards import FOLDER
from services.stack.layout import TASKS, Ports, processes, triton_environment, watching
from services.stack.supervisor import Supervisor
from services.stack.triton import triton_runs_here
from tests.deploy.monitoring.rules import RUNBOOKS, hurried, hurry, needs, rules, selectors
from tests.support.contract_models import picture, write_repository
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.prometheus import Prometheus, Target
from tests.support.stack import TAXONOMY, free_range
from tests.support.threads import in_threads
from tests.support.triton import free_ports

pytestmark = [pytest.mark.integration, needs("prometheus"), pytest.mark.timeout(600)]

# This machine may be busy with other things, and how fast it is, is not what is tested here.
_LENIENT = {'le="0.5"': 'le="10.0"', ") > 0.1": ") > 0.6"}
_HOLD_SECONDS = 18
"""As long as a task must fail until it is told of, which its dead service or Triton must prevent: 3 minutes / 10."""

NOTHING_HERE = {
    "nv_gpu_": "no GPU",
    "perception:gpu_memory_used:ratio": "no GPU",
    "perception_viewer_scenes_total": "no page watches a camera, so none misses scenes",
}
"""Series that this system does not have, and why."""
WELL = {
    "PerceptionViewerDown": "nobody kills the viewer",
    "PerceptionPodDown": "each component has one Pod",
    "PerceptionModelNotReady": "Triton has no model that fails alone",
    "PerceptionTaskFailing": "no task fails whose model is ready",
    "PerceptionBreakerOpen": "each gateway gets through to what is ready",
    "PerceptionCameraNotServed": "the gateway refuses no stream",
    "PerceptionFramesDropped": "the models are faster than the cameras",
    "PerceptionLatencyBurningFast": "few frames are late",
    "PerceptionLatencyBurningSlow": "few frames are late",
    "PerceptionTritonQueueGrowing": "the queue is empty",
    "PerceptionNoTraffic": "frames always come",
    "PerceptionCertificateExpiring": "nobody here has a certificate",
}
"""Alerts whose expressions need not hold at any moment here, and why; their selectors find series all the same."""

_DOWN = "perception:component_down"
"""Has series for what is down alone; where Prometheus came before a process was ready, for that one, too."""


class MovingCamera:
    """A camera, on a port that it keeps, in which a red thing moves to and fro, twice a second."""

    def __init__(self) -> None:
        (self._port,) = free_ports(1)
        self._running = ExitStack()

    def start(self) -> str:
        """Its URL."""
        shifts = (*range(12), *range(12, 0, -1))
        pictures = [picture(48, 64, (4 + shift, 8, 24 + shift, 30)) for shift in shifts]
        film = [simplejpeg.encode_jpeg(pixels, 95, "RGB") for pixels in pictures]
        return self._running.enter_context(mjpeg_camera(film, 2, self._port))

    def stop(self) -> None:
        self._running.close()


class System:
    """Triton, all services, an agent of two cameras, the viewer, and Prometheus."""

    def __init__(self, supervisor: Supervisor, prometheus: Prometheus, gate: MovingCamera) -> None:
        self.began = time.time()
        self.prometheus = prometheus
        self._supervisor = supervisor
        self._gate = gate

    def kill(self, name: str) -> None:
        if name == "gate":
            self._gate.stop()
            return
        process = self._supervisor.process(name)
        process.kill()
        process.wait()

    def revive(self, name: str) -> None:
        if name == "gate":
            self._gate.start()
        else:
            self._supervisor.spawn(name)

    def firing(self) -> set[str]:
        return {named(alert["labels"]) for alert in self.prometheus.alerts() if alert["state"] == "firing"}

    def until(self, holds: Callable[[], bool], seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.prometheus.alerts()
            time.sleep(0.2)

    def is_well(self) -> bool:
        """Whether everything answers, both cameras get scenes, and no alert fires."""
        well = (
            "count(perception_camera_scenes_per_second > 0) == 2",
            f"count(perception:model_ready:max == 1) == {len(TASKS)}",
            "count(perception:pods_up:sum == 1) == 8",
        )
        return all(self.prometheus.query(expression) for expression in well) and not self.firing()


def named(labels: dict[str, str]) -> str:
    """An alert and what it is about, such as `PerceptionCameraDown gate`."""
    about = labels.get("camera") or labels.get("task") or labels.get("component") or ""
    return f"{labels['alertname']} {about}".rstrip()


@contextmanager
def caller(address: str) -> Iterator[None]:
    """Somebody who sends single pictures as well, and bears with errors."""

    def call(over: threading.Event) -> None:
        with PerceptionClient(address) as client:
            while not over.wait(1.0):
                with suppress(PerceptionError):
                    client.perceive(picture(), timeout=5)

    with in_threads(call):
        yield


def agent_file(directory: Path, ports: Ports, urls: dict[str, str]) -> Path:
    cameras: list[dict[str, Any]] = [
        {
            "name": name,
            "source": url,
            "retry_seconds": 0.5,
            "max_retry_seconds": 0.5,
            "stall_seconds": 3,
            "connect_seconds": 30,
            "stream": {"deadline_seconds": 10},
            "sinks": [{"kind": "jsonl", "path": str(directory / f"{name}.jsonl")}],
        }
        for name, url in urls.items()
    ]
    path = directory / "cameras.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "gateway": f"127.0.0.1:{ports.gateway}",
                "host": "127.0.0.1",
                "port": ports.camera,
                "metrics_port": ports.metrics("camera"),
                "cameras": cameras,
            }
        )
    )
    return path


def targets(ports: Ports) -> list[Target]:
    """What a PodMonitor would find, with the labels that it sets."""

    def labels(service: str) -> dict[str, str]:
        component = service.replace("_", "-")
        return {"namespace": "local", "component": component, "pod": f"{component}-0"}

    ours = [Target(ports.metrics(service), labels(service)) for service in ("gateway", *TASKS, "camera", "viewer")]
    return [*ours, Target(ports.triton.metrics, {**labels("triton"), "pool": "default"})]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    runs, reason = triton_runs_here(triton_environment())
    if not runs:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("monitored")
    ports = Ports(free_range())
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    (directory / "prometheus").mkdir()
    cameras = {"gate": MovingCamera(), "yard": MovingCamera()}
    with ExitStack() as stack:
        for one in cameras.values():
            stack.callback(one.stop)
        urls = {name: one.start() for name, one in cameras.items()}
        specs = processes(write_repository(directory / "repository"), str(taxonomy), "triton", ports, directory / "run")
        specs += watching(ports, agent_file(directory, ports, urls))
        supervisor = stack.enter_context(Supervisor(specs, directory / "logs"))
        supervisor.start()
        stack.enter_context(caller(f"127.0.0.1:{ports.gateway}"))
        prometheus = stack.enter_context(Prometheus(directory / "prometheus", targets(ports), hurried(_LENIENT)))
        system = System(supervisor, prometheus, cameras["gate"])
        system.until(system.is_well)
        yield system


@pytest.mark.parametrize(
    ("victim", "expected"),
    [
        ("gate", "PerceptionCameraDown gate"),
        ("detection", "PerceptionServiceDown detection"),
        ("triton", "PerceptionTritonDown triton"),
        ("camera", "PerceptionServiceDown camera"),
    ],
    ids=["a camera", "a service", "Triton", "the agent of all cameras"],
)
def test_what_is_killed_and_nothing_else_is_told_of(system: System, victim: str, expected: str) -> None:
    began = time.time()
    system.kill(victim)
    system.until(lambda: expected in system.firing())
    (alert,) = (one for one in system.prometheus.alerts() if named(one["labels"]) == expected)
    assert "<no value>" not in alert["annotations"]["summary"]
    assert "local" in alert["annotations"]["summary"]
    time.sleep(_HOLD_SECONDS)
    system.revive(victim)
    system.until(system.is_well)
    # What the outage leaves behind in the windows fires nothing afterwards either.
    time.sleep(_HOLD_SECONDS)
    told = {named(labels) for labels in system.prometheus.seen('ALERTS{alertstate="firing"}', began)}
    assert told == {expected}


def queries() -> Iterator[tuple[str, str]]:
    """Every expression of every dashboard, with its variables replaced; its panel's name with it."""
    for path in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"].replace("$namespace", "local").replace("$__rate_interval", "10s")
                yield (
                    f"{path.stem}: {panel['title']}: {target['refId']}",
                    re.sub(r"\$(camera|model)\b", ".+", expression),
                )


def reason_for_nothing(expression: str) -> str:
    return next((reason for series, reason in NOTHING_HERE.items() if series in expression), "")


@pytest.mark.parametrize("expression", [pytest.param(expression, id=panel) for panel, expression in queries()])
def test_every_panel_shows_something(system: System, expression: str) -> None:
    found = system.prometheus.seen(expression, system.began)
    assert bool(found) != bool(reason_for_nothing(expression)), f"{expression}: {found}"


def runbook_queries() -> Iterator[tuple[str, str]]:
    """The PromQL that runbooks tell to look at, for a task of this system."""
    for path in sorted(RUNBOOKS.glob("*.md")):
        for query in re.findall(r"```promql\n(.*?)\n```", path.read_text(), re.DOTALL):
            yield path.stem, query.replace("NAMESPACE", "local").replace("TASK", "detection").replace("[5m]", "[20s]")


@pytest.mark.parametrize("query", [pytest.param(query, id=runbook) for runbook, query in runbook_queries()])
def test_what_runbooks_tell_to_ask_has_an_answer(system: System, query: str) -> None:
    assert system.prometheus.seen(query, system.began)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_rule_finds_its_series(system: System, rule: dict[str, Any]) -> None:
    expression = hurry(rule["expr"])
    found = system.prometheus.seen(expression, system.began)
    assert found or reason_for_nothing(expression) or rule.get("alert") in WELL
    for selector in selectors(expression):
        if selector.startswith(_DOWN) and rule.get("alert") in WELL:
            continue
        series = system.prometheus.seen(selector, system.began)
        assert bool(series) != bool(reason_for_nothing(selector)), selector
