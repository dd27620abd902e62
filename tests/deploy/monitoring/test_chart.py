"""What the chart makes of rules, dashboards and monitor."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.chart_documents import CHART
from tests.deploy import chart
from tests.deploy.chart import needs_helm, needs_kubeconform
from tests.deploy.monitoring.rules import RULES, RUNBOOKS, groups, needs

pytestmark = needs_helm

ON = "monitoring: {podMonitor: {enabled: true}, rules: {enabled: true}, dashboards: {enabled: true}}"
CHANGED = """
monitoring:
  podMonitor: {enabled: true, labels: {release: prometheus}, interval: 30s}
  rules: {enabled: true, labels: {release: prometheus}, alertLabels: {team: vision}, runbooksUrl: "https://git.example.org/runbooks/"}
  latencyObjective: {seconds: "1.0", ratio: 0.95}
  alerts:
    noTraffic: {enabled: false}
    framesDropped: {threshold: 0.25, severity: critical, for: 20m}
  dashboards: {enabled: true, labels: {grafana: "yes"}, annotations: {grafana_folder: Vision}, namespace: monitoring}
"""


def rendered(values: str) -> dict[str, dict[str, Any]]:
    (rule,) = chart.objects("PrometheusRule", values=values)
    return {one.get("alert") or one["record"]: one for group in rule["spec"]["groups"] for one in group["rules"]}


def test_nothing_of_it_comes_unasked() -> None:
    kinds = {one["kind"] for one in chart.objects()}
    assert not kinds & {"PrometheusRule", "PodMonitor"}


def test_the_rules_are_those_of_the_files_in_the_releases_namespace() -> None:
    found = rendered(ON)
    expected = {rule.get("alert") or rule["record"]: rule for group in groups() for rule in group["rules"]}
    assert found.keys() == expected.keys()
    mine = f'job="perception", namespace="{chart.NAMESPACE}"'
    for name, rule in expected.items():
        assert found[name] == {**rule, "expr": rule["expr"].replace('job="perception"', mine)}


def test_values_change_the_rules() -> None:
    before, after = rendered(ON), rendered(CHANGED)
    assert before.keys() - after.keys() == {"PerceptionNoTraffic"}
    dropped = after["PerceptionFramesDropped"]
    assert (dropped["for"], dropped["labels"]) == ("20m", {"severity": "critical", "team": "vision"})
    assert dropped["expr"] == before["PerceptionFramesDropped"]["expr"].replace("> 0.1", "> 0.25")
    assert dropped["annotations"]["runbook_url"] == "https://git.example.org/runbooks/PerceptionFramesDropped.md"
    assert 'le="1.0"' in after["perception:frames_late:rate5m"]["expr"]
    assert "(1 - 0.95)" in after["PerceptionLatencyBurningFast"]["expr"]
    for rule in after.values():
        assert 'le="0.5"' not in rule["expr"]
        assert "0.99" not in rule["expr"]


@needs("promtool")
@pytest.mark.parametrize("values", [ON, CHANGED], ids=["default", "changed"])
def test_prometheus_takes_the_rendered_rules(values: str, tmp_path: Path) -> None:
    (rule,) = chart.objects("PrometheusRule", values=values)
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"]))
    ran = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_monitor_finds_the_metrics_of_every_pod() -> None:
    (monitor,) = chart.objects("PodMonitor", values=f"{chart.AGENT}\n{ON}")
    selector = monitor["spec"]["selector"]["matchLabels"]
    deployments = chart.objects("Deployment", values=f"{chart.AGENT}\n{ON}")
    assert len(deployments) >= 8
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for deployment in deployments:
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert chart.selects(selector, labels)
        assert labels[monitor["spec"]["jobLabel"]] == "perception"  # the job of all rules and dashboards
        ports = [port["name"] for one in chart.pod_spec(deployment)["containers"] for port in one["ports"]]
        assert ports.count(endpoint["port"]) == 1


def test_the_monitor_sets_the_labels_that_rules_ask_for() -> None:
    (monitor,) = chart.objects("PodMonitor", values=CHANGED)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["interval"] == "30s"
    set_by_the_monitor = {one["targetLabel"]: one["sourceLabels"] for one in endpoint["relabelings"]}
    assert set_by_the_monitor == {
        "component": ["__meta_kubernetes_pod_label_app_kubernetes_io_component"],
        "pool": ["__meta_kubernetes_pod_label_perception_pool"],
        "agent": ["__meta_kubernetes_pod_label_perception_agent"],
    }
    labels = chart.objects("Deployment", values=CHANGED)[-1]["spec"]["template"]["metadata"]["labels"]
    assert "app.kubernetes.io/component" in labels


def test_rules_and_dashboards_name_components_that_there_are() -> None:
    deployments = chart.objects("Deployment", values=f"{chart.AGENT}\n{ON}")
    there = {one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] for one in deployments}
    text = "".join(path.read_text() for path in (*RULES, *(CHART / "dashboards").glob("*.json")))
    named = {name for names in re.findall(r'component(?:=|!=|=~|!~)\\?"([^"\\]+)', text) for name in names.split("|")}
    assert {"gateway", "triton", "camera", "viewer"} <= named <= there


def test_runbooks_look_for_labels_that_pods_have() -> None:
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in chart.objects("Deployment", values=chart.AGENT)]
    for runbook in RUNBOOKS.glob("*.md"):
        for selector in re.findall(r" -l ([\w./=,-]+)", runbook.read_text()):
            wanted = dict(part.split("=") for part in selector.split(","))
            for label, value in wanted.items():
                assert any(value == labels.get(label) or (value.isupper() and label in labels) for labels in pods)


def test_each_dashboard_is_a_config_map_for_the_sidecar() -> None:
    boards = [one for one in chart.objects("ConfigMap", values=CHANGED) if "-dashboard-" in one["metadata"]["name"]]
    assert len(boards) == 4
    for board in boards:
        assert board["metadata"]["namespace"] == "monitoring"
        assert board["metadata"]["labels"]["grafana"] == "yes"
        assert board["metadata"]["annotations"] == {"grafana_folder": "Vision"}
        ((name, content),) = board["data"].items()
        stem = name.removeprefix("perception-")
        assert json.loads(content) == json.loads((CHART / "dashboards" / stem).read_text())
    default = [one for one in chart.objects("ConfigMap", values=ON) if "-dashboard-" in one["metadata"]["name"]]
    assert {one["metadata"]["labels"]["grafana_dashboard"] for one in default} == {"1"}


@needs_kubeconform
def test_the_operator_takes_monitor_and_rules(tmp_path: Path) -> None:
    from deploy.helm import tools

    path = tmp_path / "rendered.yaml"
    path.write_text(chart.manifest(values=CHANGED))
    locations = [argument for one in tools.SCHEMA_LOCATIONS for argument in ("-schema-location", one)]
    command = [str(tools.program("kubeconform")), "-strict", "-kubernetes-version", chart.KUBERNETES, *locations]
    ran = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ('latencyObjective: {seconds: "0.4"}', "/monitoring/latencyObjective/seconds"),
        ("latencyObjective: {ratio: 99}", "/monitoring/latencyObjective/ratio"),
        ("alerts: {cameraLost: {enabled: true}}", "cameraLost"),
        ("alerts: {cameraDown: {threshold: 2}}", "threshold"),
        ("alerts: {cameraDown: {for: 1 minute}}", "/monitoring/alerts/cameraDown/for"),
    ],
)
def test_wrong_values_are_named(values: str, said: str) -> None:
    ran = chart.template(values=f"monitoring: {{{values}}}")
    assert ran.returncode != 0
    assert said in ran.stderr
