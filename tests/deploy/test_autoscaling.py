"""What the system is scaled on, asked of a real Prometheus engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import REGISTRY

from services.runtime import metrics
from tests.deploy import chart
from tests.deploy.chart import SWITCHES, Object, needs_helm

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool missing: Debian's prometheus")
pytestmark = needs_helm

SCALED = {"gateway", "detection", "instance-segmentation", "semantic-segmentation", "classification", "triton-default"}


@pytest.mark.parametrize(("kind", "switch"), [("ScaledObject", "keda"), ("HorizontalPodAutoscaler", "hpa")])
def test_gateway_tasks_and_triton_are_scaled(kind: str, switch: str) -> None:
    scalers = chart.objects(kind, values=SWITCHES[switch])
    assert {one["metadata"]["name"].removeprefix("perception-") for one in scalers} == SCALED
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]["name"]
        assert "replicas" not in chart.named("Deployment", target, values=SWITCHES[switch])["spec"]
    assert "replicas" in chart.named("Deployment", "perception-viewer", values=SWITCHES[switch])["spec"]


def test_nothing_is_scaled_unless_asked_for() -> None:
    assert not chart.objects("ScaledObject") + chart.objects("HorizontalPodAutoscaler")


@pytest.mark.parametrize(("kind", "switch"), [("ScaledObject", "keda"), ("HorizontalPodAutoscaler", "hpa")])
def test_pods_go_slowly_and_come_fast(kind: str, switch: str) -> None:
    for scaler in chart.objects(kind, values=SWITCHES[switch]):
        spec = scaler["spec"]
        if kind == "ScaledObject":
            spec = spec["advanced"]["horizontalPodAutoscalerConfig"]
        behavior = spec["behavior"]
        assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
        assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0


def test_adapter_and_keda_ask_the_same() -> None:
    asked = {one["metadata"]["name"]: _query(one) for one in chart.objects("ScaledObject", values=SWITCHES["keda"])}
    recorded = {rule["labels"]["workload"]: rule["expr"] for rule in _rules()}
    assert recorded == asked
    for scaler in chart.objects("HorizontalPodAutoscaler", values=SWITCHES["hpa"]):
        (metric,) = scaler["spec"]["metrics"]
        labels = metric["external"]["metric"]["selector"]["matchLabels"]
        (rule,) = (one for one in _rules() if labels.items() <= one["labels"].items())
        assert metric["external"]["metric"]["name"] == rule["record"]


def test_the_services_export_what_is_asked_for() -> None:
    # perception_* of our own code; nv_* of Triton are seen in tests/integration.
    assert metrics.REQUESTS_IN_FLIGHT
    exported = {metric.name for metric in REGISTRY.collect()}
    asked = {name for rule in _rules() for name in re.findall(r"perception_\w+", rule["expr"])}
    assert asked == {"perception_requests_in_flight", "perception_stream_frames_at_work"}
    assert asked <= exported


@needs_promtool
def test_queries_mean_what_they_should(tmp_path: Path) -> None:
    # Two Pods of Triton, one of which is idle; a gateway with streams and pictures; a task that nobody has asked yet.
    triton, gateway, task = (f"perception-{name}" for name in ("triton-default", "gateway", "detection"))
    series = {
        # 500 requests in a minute that waited 20 ms each, over Pods and models.
        f'nv_inference_queue_duration_us{{namespace="vision",pod="{triton}-7d-a",model="m"}}': "0+10000000x10",
        f'nv_inference_request_success{{namespace="vision",pod="{triton}-7d-a",model="m"}}': "0+500x10",
        f'nv_inference_queue_duration_us{{namespace="vision",pod="{triton}-7d-b",model="m"}}': "0x10",
        f'nv_inference_request_success{{namespace="vision",pod="{triton}-7d-b",model="m"}}': "0x10",
        # Another pool, another namespace: none of this release's business.
        f'nv_inference_queue_duration_us{{namespace="vision",pod="{triton}-b-7d-a",model="m"}}': "0+90000000x10",
        f'nv_inference_queue_duration_us{{namespace="other",pod="{triton}-7d-a",model="m"}}': "0+90000000x10",
        # Three streams are open, two of their frames at work in each of two Pods; one picture beside them.
        f'perception_requests_in_flight{{namespace="vision",pod="{gateway}-5c-a",method="/p/PerceiveStream"}}': "3x10",
        f'perception_requests_in_flight{{namespace="vision",pod="{gateway}-5c-a",method="/p/Perceive"}}': "1x10",
        f'perception_stream_frames_at_work{{namespace="vision",pod="{gateway}-5c-a"}}': "2x10",
        f'perception_stream_frames_at_work{{namespace="vision",pod="{gateway}-5c-b"}}': "2x10",
        f'process_start_time_seconds{{namespace="vision",pod="{task}-5c-b"}}': "1700000000x10",
    }
    expected = {triton: 20_000, gateway: 5, task: 0}
    checked = _promtool(tmp_path, series, expected)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_a_prometheus_that_sees_nothing_says_nothing(tmp_path: Path) -> None:
    # 0 would take all Pods away that are not needed for 0 requests.
    checked = _promtool(tmp_path, {}, {f"perception-{name}": None for name in SCALED})
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_a_gateway_that_only_has_streams_is_scaled_as_well(tmp_path: Path) -> None:
    series = {'perception_stream_frames_at_work{namespace="vision",pod="perception-gateway-5c-a"}': "7x10"}
    checked = _promtool(tmp_path, series, {"perception-gateway": 7})
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_a_wrong_expectation_would_be_found(tmp_path: Path) -> None:
    assert _promtool(tmp_path, {}, {"perception-gateway": 1}).returncode != 0


@needs_promtool
def test_an_idle_triton_has_an_empty_queue(tmp_path: Path) -> None:
    pod = 'namespace="vision",pod="perception-triton-default-7d-a"'
    idle = {f"nv_inference_queue_duration_us{{{pod}}}": "7x10", f"nv_inference_request_success{{{pod}}}": "7x10"}
    checked = _promtool(tmp_path, idle, {"perception-triton-default": 0})
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _query(scaler: Object) -> str:
    (trigger,) = scaler["spec"]["triggers"]
    return str(trigger["metadata"]["query"])


def _rules() -> list[Object]:
    rules = chart.named("PrometheusRule", "perception-autoscaling", values=SWITCHES["hpa"])
    (group,) = rules["spec"]["groups"]
    return list(group["rules"])


def _promtool(
    folder: Path, series: dict[str, str], expected: dict[str, float | None]
) -> subprocess.CompletedProcess[str]:
    rules = {rule["labels"]["workload"]: rule for rule in _rules()}
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "scaling", "rules": list(rules.values())}]}))
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'round({rules[name]["record"]}{{workload="{name}"}}, 0.001)',
                        "eval_time": "5m",
                        "exp_samples": []
                        if value is None
                        else [{"labels": f'{{namespace="vision",workload="{name}"}}', "value": value}],
                    }
                    for name, value in expected.items()
                ],
            }
        ],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(test))
    return subprocess.run(
        ["promtool", "test", "rules", str(folder / "test.yaml")], capture_output=True, text=True, check=False
    )
