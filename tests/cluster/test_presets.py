"""The life of a release with each preset: installed, tested, drained, updated, uninstalled."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster import nodes, watching
from tests.cluster.conftest import Shown
from tests.cluster.control_plane import ControlPlane, Object
from tests.cluster.release import Release, everything
from tests.deploy.chart import AGENT, PRESETS, RELEASE

pytestmark = pytest.mark.timeout(600)

_NODES = {
    "default": [*map(nodes.cpu_node, range(3)), *map(nodes.gpu_node, range(3))],
    "cpu": [nodes.cpu_node(number) for number in range(3)],
    "gpu": [*map(nodes.cpu_node, range(3)), *map(nodes.gpu_node, range(3))],
    "edge": [nodes.cpu_node(0, cpu=8)],
}
_TRITON = "app.kubernetes.io/component=triton"


@pytest.fixture(scope="module", params=PRESETS)
def release(request: pytest.FixtureRequest, clean_cluster: ControlPlane) -> Iterator[Release]:
    """The chart installed with a preset and two cameras, on nodes that fit it."""
    preset = request.param
    nodes.bring_up(clean_cluster, _NODES[preset])
    installed = Release(clean_cluster, f"vision-{preset}", preset, AGENT)
    installed.install("--wait", "--timeout=120s")
    installed.scale_as_keda_does()
    installed.wait_until_ready()
    yield installed
    installed.remove()
    nodes.take_down(clean_cluster)


def test_everything_is_admitted_under_restricted_pod_security(release: Release, shown: Shown) -> None:
    pods = release.pods()
    assert len(pods) == sum(release.replicas().values())
    assert all(map(watching.is_ready, pods))
    refused = [one for one in release.warnings() if "FailedCreate" in one or "PodSecurity" in one]
    assert not refused
    kinds = {one.partition(" ")[0] for one in everything(release.cluster) - release.before}
    shown(f"{len(release.deployments())} Deployments, {len(pods)} Pods run; kinds: {', '.join(sorted(kinds))}")


def test_pod_security_is_really_enforced(release: Release, shown: Shown) -> None:
    (name,) = (one for one in release.replicas() if one.endswith("-gateway"))
    pod = _pod_of(release, name)
    del pod["spec"]["securityContext"]["runAsNonRoot"]
    ran = release.cluster.try_kubectl("create", "-f", "-", given=json.dumps(pod))
    assert ran.returncode != 0
    assert 'violates PodSecurity "restricted' in ran.stderr
    assert "runAsNonRoot != true" in ran.stderr
    shown(f"the gateway's Pod without runAsNonRoot: {ran.stderr.strip().rpartition('forbidden: ')[2]}")


def test_helm_test_is_admitted_and_leaves_nothing(release: Release, shown: Shown) -> None:
    before = everything(release.cluster)
    said = release.cluster.helm("test", RELEASE, "--namespace", release.namespace, "--timeout=60s")
    assert "Phase:          Succeeded" in said
    left = everything(release.cluster) - before
    assert not left
    shown("its Pod is admitted and gone afterwards (KWOK runs no containers: it only says that it succeeded)")


def test_a_drain_respects_the_budgets(release: Release, shown: Shown) -> None:
    _crowd(release)
    victims = ["cpu-0", *{pod["spec"]["nodeName"] for pod in release.pods(_TRITON) if _has_gpu(pod)}]
    wanted = release.replicas()
    for victim in victims:
        with watching.ready_pods(release.cluster, release.namespace) as ready:
            began = time.monotonic()
            said = _drain(release.cluster, victim, comes_back=release.preset == "edge")
            seconds = time.monotonic() - began
            release.wait_until_ready()
        evicted = sum(line.endswith(" evicted") for line in said.splitlines())
        refused = said.count("Cannot evict pod as it would violate the pod's disruption budget")
        assert evicted
        for name, replicas in wanted.items():
            assert ready.least[name] >= replicas - 1, f"{name} had {ready.least[name]} of {replicas} ready"
        if victim == "cpu-0" and release.preset != "edge":
            assert refused, said
        release.cluster.kubectl("uncordon", victim)
        shown(
            f"{evicted} Pods left {victim} in {seconds:.0f} s; {refused} evictions were refused until others were "
            "ready; no Deployment lacked more than one Pod"
        )


def test_an_update_never_goes_under_the_minimum(release: Release, shown: Shown) -> None:
    wanted = release.replicas()
    cameras = {name for name in wanted if "-camera-" in name}
    before = {pod["metadata"]["uid"] for pod in release.pods()}
    with (
        watching.ready_pods(release.cluster, release.namespace) as ready,
        watching.ready_endpoints(release.cluster, release.namespace) as endpoints,
        watching.all_pods(release.cluster, release.namespace) as present,
    ):
        began = time.monotonic()
        # A label of the Pods, so that every one of them is made anew.
        release.upgrade("--set", "pod.labels.generation=second", "--wait", "--timeout=300s")
        release.wait_until_ready()
        seconds = time.monotonic() - began
    assert not before & {pod["metadata"]["uid"] for pod in release.pods()}
    assert release.replicas() == wanted
    for name, replicas in wanted.items():
        if name in cameras:
            # A camera is opened once: its agent ends before the next one starts.
            assert present.most[name] == 1
        else:
            assert ready.least[name] >= replicas, f"{name} had {ready.least[name]} of {replicas} Pods ready"
            assert endpoints.least[name] >= replicas, f"{name} had {endpoints.least[name]} of {replicas} addresses"
    shown(
        f"{len(before)} Pods replaced in {seconds:.0f} s, {ready.changes} changes of Pods and {endpoints.changes} of "
        "EndpointSlices watched: none under its replicas; camera agents never two at once"
    )


def test_uninstalling_leaves_nothing(release: Release, shown: Shown) -> None:
    there = everything(release.cluster) - release.before
    release.uninstall()
    seconds = release.cluster.wait(
        "nothing of the release", lambda: not everything(release.cluster) - release.before, seconds=90
    )
    assert everything(release.cluster) == release.before
    shown(f"{len(there)} objects gone {seconds:.0f} s after helm uninstall; every kind in the cluster listed")


def _drain(cluster: ControlPlane, node: str, comes_back: bool) -> str:
    """Drains a node, and says what kubectl printed. The only node comes back: its Pods wait for it."""
    drain = cluster.start_kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
    said, _ = drain.communicate(timeout=150)
    assert drain.returncode == 0, said
    if comes_back:
        cluster.kubectl("uncordon", node)
    return said


def _has_gpu(pod: Object) -> bool:
    return any("nvidia.com/gpu" in container["resources"].get("limits", {}) for container in pod["spec"]["containers"])


def _crowd(release: Release) -> None:
    """Brings all Pods that nodes without GPUs can hold onto cpu-0."""
    names = [node["metadata"]["name"] for node in release.cluster.get("nodes")]
    others = [name for name in names if name.startswith("cpu-") and name != "cpu-0"]
    for name in others:
        release.cluster.kubectl("cordon", name)
    selector = "app.kubernetes.io/name=perception"
    release.cluster.kubectl("delete", "pods", "--namespace", release.namespace, "--selector", selector, "--wait=false")
    release.cluster.wait("Pods in their places", lambda: _settled(release))
    release.wait_until_ready()
    for name in others:
        release.cluster.kubectl("uncordon", name)


def _settled(release: Release) -> bool:
    pods = release.pods()
    return all(map(watching.is_ready, pods)) and all(
        pod["spec"]["nodeName"] == "cpu-0" or pod["spec"]["nodeName"].startswith("gpu-") for pod in pods
    )


def _pod_of(release: Release, deployment: str) -> Object:
    (found,) = (one for one in release.deployments() if one["metadata"]["name"] == deployment)
    template = found["spec"]["template"]
    metadata = {"name": "intruder", "namespace": release.namespace}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
