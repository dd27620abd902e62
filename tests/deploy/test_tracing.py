"""Traces: who gets told of the collector, and who reaches it."""

from __future__ import annotations

import pytest

from services.stack.triton import trace_arguments
from tests.deploy import chart
from tests.deploy.chart import AGENT, SWITCHES, Object, needs_helm, pod_spec

pytestmark = needs_helm

TRACES = f"{SWITCHES['traces']}\n{AGENT}"
OURS = {"gateway", "detection", "instance-segmentation", "semantic-segmentation", "classification", "viewer", "camera"}


def containers(values: str) -> dict[str, Object]:
    """The container of each component."""
    found = {}
    for deployment in chart.objects("Deployment", values=values):
        component = deployment["metadata"]["labels"]["app.kubernetes.io/component"]
        (found[component],) = pod_spec(deployment)["containers"]
    return found


def variables(container: Object) -> dict[str, Object]:
    return {variable["name"]: variable for variable in container.get("env", ())}


def test_without_a_collector_nobody_traces() -> None:
    assert "OTEL" not in chart.manifest(values=AGENT)
    assert "trace-config" not in chart.manifest(values=AGENT)


def test_every_process_of_ours_is_told_of_the_collector() -> None:
    found = containers(TRACES)
    assert found.keys() == OURS | {"triton"}
    for component in OURS:
        told = variables(found[component])
        assert told["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"] == "http://collector.monitoring:4317"
        assert told["OTEL_TRACES_SAMPLER"]["value"] == "parentbased_traceidratio"
        assert told["OTEL_TRACES_SAMPLER_ARG"]["value"] == "0.05"
        # Kubernetes fills in the Pod's name where it knows it already.
        names = list(told)
        assert names.index("K8S_POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")
        assert told["OTEL_RESOURCE_ATTRIBUTES"]["value"] == (
            f"k8s.namespace.name={chart.NAMESPACE},k8s.pod.name=$(K8S_POD_NAME)"
        )
        assert found[component]["envFrom"] == [{"secretRef": {"name": "collector-token"}}]


def test_triton_traces_as_it_does_on_a_laptop() -> None:
    arguments = containers(TRACES)["triton"]["args"]
    told = [one for one in arguments if one.startswith("--trace-config")]
    assert told == trace_arguments("http://collector.monitoring:4318/v1/traces")
    without = containers("tracing: {endpoint: 'http://collector:4317'}")["triton"]["args"]
    assert not [one for one in without if one.startswith("--trace-config")]


def test_the_collector_is_reached_by_those_who_trace() -> None:
    reached = {}
    for policy in chart.objects("NetworkPolicy", values=TRACES):
        component = policy["metadata"]["labels"].get("app.kubernetes.io/component")
        for rule in policy["spec"].get("egress", ()):
            if rule["to"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]:
                reached[component] = [port["port"] for port in rule["ports"]]
    assert reached == {**{component: [4317] for component in OURS}, "triton": [4318]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("tracing: {endpoint: 'collector:4317'}", "/tracing/endpoint"),
        ("tracing: {endpoint: 'http://collector'}", "/tracing/endpoint"),
        ("tracing: {samplingRatio: 2}", "/tracing/samplingRatio"),
        ("tracing: {tritonEndpoint: 'http://collector:4318/v1/traces'}", "expected tracing.endpoint as well"),
        (
            "tracing: {endpoint: 'http://a:1'}\nnetworkPolicy: {collector: []}",
            "no rule lets traces reach the collector",
        ),
    ],
)
def test_wrong_values_are_refused(values: str, message: str) -> None:
    ran = chart.template(values=values)
    assert ran.returncode != 0
    assert message in ran.stderr
