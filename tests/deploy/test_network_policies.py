"""Nothing in or out of a Pod but the edges of the architecture."""

from __future__ import annotations

import pytest

from tests.deploy import chart
from tests.deploy.chart import AGENT, SWITCHES, Object, needs_helm, selects

pytestmark = needs_helm

TASKS = ("detection", "instance-segmentation", "semantic-segmentation", "classification")
EDGES = {
    ("camera", "gateway"),
    ("viewer", "gateway"),
    ("viewer", "camera"),
    *(("gateway", task) for task in TASKS),
    *((task, "triton") for task in TASKS),
    ("test", "gateway"),
    ("test", "viewer"),
}
"""Who may call whom; `test` is the Pod of `helm test`."""
PORTS = {"triton": 8001, "camera": 50060, "viewer": 8080}


def _policies(values: str, preset: str = "default") -> dict[str, Object]:
    """The policy of each component."""
    found = {}
    for policy in chart.objects("NetworkPolicy", preset, values):
        component = policy["metadata"]["labels"].get("app.kubernetes.io/component")
        if component:
            found[component] = policy["spec"]
    return found


def _allowed(values: str, preset: str = "default") -> set[tuple[str, str, int]]:
    """Which components may call which, on which port: what both sides' policies let through."""
    policies = _policies(values, preset)
    out = {
        (caller, called, port["port"])
        for caller, policy in policies.items()
        for rule in policy["egress"]
        for peer in rule["to"]
        if "podSelector" in peer and "namespaceSelector" not in peer
        for called in policies
        if selects(peer["podSelector"]["matchLabels"], _labels(called))
        for port in rule["ports"]
    }
    into = {
        (caller, called, port["port"])
        for called, policy in policies.items()
        for rule in policy.get("ingress", [])
        for peer in rule["from"]
        if "podSelector" in peer and "namespaceSelector" not in peer
        for caller in policies
        if selects(peer["podSelector"]["matchLabels"], _labels(caller))
        for port in rule["ports"]
    }
    assert out == into  # a way out that leads nowhere would be a mistake as well
    return out


def _labels(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "perception",
        "app.kubernetes.io/instance": "perception",
        "app.kubernetes.io/component": component,
    }


def test_only_the_edges_of_the_architecture_are_open() -> None:
    assert _allowed(AGENT) == {(caller, called, PORTS.get(called, 50050)) for caller, called in EDGES}


def test_a_task_with_its_model_in_its_own_process_calls_nobody() -> None:
    allowed = _allowed(SWITCHES["mixed engines"])
    assert ("detection", "triton", 8001) in allowed
    assert not [one for one in allowed if one[0] == "classification"]
    assert not [one for one in _allowed("", "edge") if "triton" in one]


def test_the_rest_is_denied() -> None:
    denied = chart.named("NetworkPolicy", "perception-default-deny")["spec"]
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    assert not denied.keys() & {"ingress", "egress"}
    for deployment in chart.objects("Deployment", "gpu", AGENT):
        assert selects(denied["podSelector"]["matchLabels"], deployment["spec"]["template"]["metadata"]["labels"])


@pytest.mark.parametrize("values", ["", *SWITCHES.values()], ids=["default", *SWITCHES])
def test_no_rule_is_open_to_all(values: str) -> None:
    # An empty list of peers, or of ports, would let everything through.
    for policy in chart.objects("NetworkPolicy", values=values):
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"]
            assert rule["ports"]
        for rule in policy["spec"].get("egress", []):
            assert rule["to"]
            assert rule["ports"]


def test_everyone_may_ask_dns_and_only_prometheus_for_metrics() -> None:
    for component, policy in _policies(AGENT).items():
        dns = policy["egress"][0]
        assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
        assert dns["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
        if component != "test":
            assert policy["ingress"][-1]["from"] == [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
            ]


def test_agents_reach_the_cameras_networks_and_nothing_else_outside() -> None:
    blocks = {
        component: [
            (peer["ipBlock"]["cidr"], [port["port"] for port in rule["ports"]])
            for rule in policy["egress"]
            for peer in rule["to"]
            if "ipBlock" in peer
        ]
        for component, policy in _policies(AGENT).items()
    }
    assert blocks.pop("camera") == [("10.0.20.0/24", [554])]
    assert not any(blocks.values())


def test_the_bucket_is_reached_by_those_who_copy_from_it() -> None:
    outside = {
        component
        for component, policy in _policies(SWITCHES["bucket"]).items()
        if any("ipBlock" in peer for rule in policy["egress"] for peer in rule["to"])
    }
    assert outside == {"triton"}


def test_named_clients_reach_the_gateway_and_the_page() -> None:
    policies = _policies(SWITCHES["clients"])
    assert {"namespaceSelector": {"matchLabels": {"team": "parking"}}} in policies["gateway"]["ingress"][0]["from"]
    assert policies["viewer"]["ingress"][0]["from"][-1] == {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app": "oauth2-proxy"}},
    }
