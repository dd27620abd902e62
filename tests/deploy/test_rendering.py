"""The chart renders, with every preset and switch, to what Kubernetes takes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.helm import tools
from deploy.helm.chart_documents import CHART
from tests.deploy import chart
from tests.deploy.chart import KUBERNETES, PRESETS, SWITCHES, needs_helm, needs_kubeconform

pytestmark = needs_helm

MATRIX = [
    ("default", ""),
    *((preset, chart.AGENT) for preset in PRESETS),
    *(("default", one) for one in SWITCHES.values()),
]
"""Presets without and with cameras, and every switch."""
_WITH_TEMPLATES = ("ConfigMap", "PrometheusRule")


@pytest.mark.parametrize("preset", PRESETS)
def test_helm_finds_nothing_to_say(preset: str) -> None:
    files = [argument for name in PRESETS[preset] for argument in ("--values", str(CHART / name))]
    ran = chart.helm("lint", "--strict", "--kube-version", KUBERNETES, str(CHART), *files)
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("[")]
    assert ran.returncode == 0, ran.stdout
    assert said == ["[INFO] Chart.yaml: icon is recommended"]


@pytest.mark.parametrize("values", SWITCHES.values(), ids=SWITCHES)
def test_a_switch_changes_something(values: str) -> None:
    assert chart.manifest(values=values) != chart.manifest()


@pytest.mark.parametrize("preset", PRESETS)
def test_nothing_is_left_of_the_templates(preset: str) -> None:
    # Dashboards and alerts have templates of their own, for Grafana and Prometheus.
    others = [one for one in chart.objects(preset=preset, values=chart.AGENT) if one["kind"] not in _WITH_TEMPLATES]
    rendered = yaml.safe_dump_all(others)
    for leftover in ("{{", "}}", "<no value>", "<nil>", "e+0", "%!"):
        assert leftover not in rendered


def test_no_object_comes_twice() -> None:
    for preset, values in MATRIX:
        names = [(one["kind"], one["metadata"]["name"]) for one in chart.objects(preset=preset, values=values)]
        assert len(names) == len(set(names))


@needs_kubeconform
@pytest.mark.parametrize("version", tools.KUBERNETES_VERSIONS)
def test_kubernetes_takes_every_object(version: str, tmp_path: Path) -> None:
    for number, (preset, values) in enumerate(MATRIX):
        (tmp_path / f"{number}.yaml").write_text(chart.manifest(preset, values))
    summary = _kubeconform(version, tmp_path)
    rendered = sum(len(chart.objects(preset=preset, values=values)) for preset, values in MATRIX)
    assert summary == {"valid": rendered, "invalid": 0, "errors": 0, "skipped": 0}


@needs_kubeconform
@pytest.mark.parametrize(
    ("correct", "wrong"),
    [
        ("replicas: 2", 'replicas: "two"'),  # a type
        ("revisionHistoryLimit: 3", "revisionHistory: 3"),  # a key that no Deployment has
        ("maxReplicaCount: 16", "maxReplicas: 16"),  # a key that no ScaledObject has
    ],
)
def test_a_mistake_would_be_found(correct: str, wrong: str, tmp_path: Path) -> None:
    # What proves that the schemas are strict, those of custom resources as well.
    rendered = chart.manifest(values=SWITCHES["keda"] + "\nviewer: {replicas: 2}")
    assert correct in rendered
    (tmp_path / "wrong.yaml").write_text(rendered.replace(correct, wrong))
    assert _kubeconform(tools.KUBERNETES_VERSIONS[-1], tmp_path)["invalid"] > 0


def _kubeconform(version: str, folder: Path) -> dict[str, int]:
    locations = [argument for place in tools.SCHEMA_LOCATIONS for argument in ("-schema-location", place)]
    command = [str(tools.program("kubeconform")), "-strict", "-summary", "-output", "json", "-n", "2"]
    ran = subprocess.run(
        [*command, "-kubernetes-version", version, *locations, str(folder)], capture_output=True, text=True, check=False
    )
    answer = json.loads(ran.stdout)
    for resource in answer["resources"]:
        print(resource)
    return dict(answer["summary"])
