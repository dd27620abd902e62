"""The rules say what they should, by Prometheus' own tool, and belong together with values and runbooks."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.utils import floatToGoString

from deploy.helm.chart_documents import BASE_SCHEMA, CHART
from services.runtime.metrics import LATENCY_BUCKETS
from tests.deploy.monitoring.rules import RULES, RUNBOOKS, Rule, alerts, needs, rules, selectors

CASES = Path(__file__).with_name("rules.test.yaml")
ALERTS = {rule["alert"]: rule for rule in alerts()}


def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]
    return found


def value_name(alert: str) -> str:
    name = alert.removeprefix("Perception")
    return name[0].lower() + name[1:]


def fired() -> dict[str, set[str]]:
    """The labels of each alert that some case expects to fire."""
    found: dict[str, set[str]] = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case["promql_expr_test"]:
            for sample in check["exp_samples"]:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"]))
                if "alertname" in labels:
                    found[labels["alertname"]] = set(labels)
    return found


@needs("promtool")
def test_prometheus_takes_the_rules() -> None:
    ran = subprocess.run(["promtool", "check", "rules", *map(str, RULES)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@needs("promtool")
@pytest.mark.timeout(300)
def test_each_alert_fires_when_it_should_and_no_other() -> None:
    ran = subprocess.run(["promtool", "test", "rules", str(CASES)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert fired().keys() == ALERTS.keys()


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: Rule) -> None:
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert annotations["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    assert "$labels.namespace" in annotations["summary"] or "$labels.pod" in annotations["summary"]
    named = set(re.findall(r"\$labels\.(\w+)", "".join(annotations.values())))
    assert named <= fired()[rule["alert"]], "a label that the alert does not have"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == ALERTS.keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_a_runbook_answers_the_three_questions(alert: str) -> None:
    lines = (RUNBOOKS / f"{alert}.md").read_text().splitlines()
    assert lines[0] == f"# {alert}"
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## What it means", "## How to see it", "## What to do"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_selector_says_whose_series_it_wants(rule: Rule) -> None:
    """The chart adds the namespace to each of them by this matcher."""
    found = selectors(rule["expr"])
    assert found
    for selector in found:
        assert 'job="perception"' in selector
    # No series is named without a selector in braces.
    bare = re.sub(r'"[^"]*"', "", rule["expr"])
    names = re.findall(r"\b(?:perception|nv)_\w+|perception:[\w:]+|\bup\b", bare)
    assert len(names) == len([selector for selector in found if not selector.startswith("{")])


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_the_values_are_those_of_the_file(rule: Rule) -> None:
    value = values()["alerts"][value_name(rule["alert"])]
    threshold = re.search(r"[<>] ([0-9.]+)$", rule["expr"])
    assert value["enabled"] is True
    assert (value["severity"], value["for"]) == (rule["labels"]["severity"], rule["for"])
    if "threshold" in value:
        assert threshold is not None
        assert float(threshold[1]) == value["threshold"]


def test_the_values_name_every_alert() -> None:
    assert set(values()["alerts"]) == {value_name(alert) for alert in ALERTS}


def test_the_latency_objective_is_one_of_the_buckets() -> None:
    objective = values()["latencyObjective"]
    text = "".join(path.read_text() for path in RULES)
    assert text.count(f'le="{objective["seconds"]}"') == 2  # the rule, and the comment about it
    assert text.count(f"(1 - {objective['ratio']})") >= 5
    schema = yaml.safe_load(BASE_SCHEMA.read_text())["properties"]["monitoring"]["properties"]["latencyObjective"]
    assert schema["properties"]["seconds"]["enum"] == [floatToGoString(bound) for bound in LATENCY_BUCKETS]


def test_a_window_is_shorter_than_what_its_alert_waits_for() -> None:
    """What an outage leaves in the window pages nobody when the outage is over."""
    minutes = {"PerceptionTaskFailing": 2, "PerceptionFramesDropped": 2, "PerceptionTritonQueueGrowing": 2}
    for alert, window in minutes.items():
        (record,) = re.findall(r"perception:\w+:\w+_rate\dm", ALERTS[alert]["expr"])
        assert record.endswith(f"_rate{window}m")
        assert int(ALERTS[alert]["for"].removesuffix("m")) > window
