"""A thousand cameras on two hundred nodes, and who decides how many Pods there are."""

from __future__ import annotations

import math
import time
from collections import Counter

import pytest
import yaml

from tests.cluster import nodes, watching
from tests.cluster.conftest import Shown
from tests.cluster.release import Release
from tests.cluster.watching import is_ready, workload

pytestmark = pytest.mark.timeout(900)

# What a thousand cameras ask for. Frames in flight follow from Little's law; Pods from the targets to which the chart
# scales them, and from so many frames a second that a GPU is taken to serve.
_CAMERAS, _CAMERAS_PER_AGENT = 1000, 10
_FRAMES_PER_SECOND, _SECONDS_PER_FRAME = 5, 0.1
_FRAMES_IN_FLIGHT = _CAMERAS * _FRAMES_PER_SECOND * _SECONDS_PER_FRAME
_FRAMES_PER_GPU = {"segmentation": 200, "small": 500}
_GATEWAYS = math.ceil(_FRAMES_IN_FLIGHT / 5)
_TASK_PODS = math.ceil(_FRAMES_IN_FLIGHT / 16)
_GPU_NODES, _ALL_NODES = 20, 200


def _thousand_cameras() -> str:
    agents = {
        f"site-{number}": {
            "cameras": [
                {"name": f"camera-{number}-{one}", "source": f"rtsp://10.0.{number}.{one}/stream"}
                for one in range(_CAMERAS_PER_AGENT)
            ]
        }
        for number in range(_CAMERAS // _CAMERAS_PER_AGENT)
    }
    models = {
        "segmentation": ["instance_segmentation", "semantic_segmentation"],
        "small": ["detection", "classification"],
    }
    pools = {
        name: {"models": models[name], "replicas": math.ceil(_CAMERAS * _FRAMES_PER_SECOND / frames)}
        for name, frames in _FRAMES_PER_GPU.items()
    }
    return yaml.safe_dump(
        {
            "gateway": {"replicas": _GATEWAYS},
            "taskDefaults": {"replicas": _TASK_PODS},
            "triton": {"pools": {"default": {"models": []}, **pools}},
            "cameras": {"agents": agents},
            "networkPolicy": {"cameraSources": [{"cidr": "10.0.0.0/16", "ports": [554]}]},
        }
    )


def test_a_thousand_cameras_on_two_hundred_nodes(trial: Release, shown: Shown) -> None:
    cluster = trial.cluster
    came_up = nodes.bring_up(
        cluster,
        [
            *(nodes.gpu_node(number) for number in range(_GPU_NODES)),
            *(nodes.cpu_node(number, cpu=8) for number in range(_GPU_NODES, _ALL_NODES)),
        ],
    )
    shown(f"{_ALL_NODES} nodes, {_GPU_NODES} of them with four GPUs, take Pods after {came_up:.0f} s")
    trial.values = _thousand_cameras()
    began = time.monotonic()
    trial.install("--timeout=10m")
    installed = time.monotonic() - began
    wanted = sum(trial.replicas().values())
    cluster.wait("all Pods on nodes", lambda: _scheduled(trial) == wanted, seconds=400)
    scheduled = time.monotonic() - began
    cluster.wait("all Pods ready", lambda: sum(map(is_ready, trial.pods())) == wanted, seconds=200)
    ready = time.monotonic() - began
    pods = trial.pods()
    zones = {node["metadata"]["name"]: node["metadata"]["labels"] for node in cluster.get("nodes")}
    gpus = [pod for pod in pods if "-triton-" in workload(pod)]
    assert all(pod["spec"]["nodeName"].startswith("gpu-") for pod in gpus)
    assert not [pod for pod in pods if pod["spec"]["nodeName"].startswith("gpu-") and pod not in gpus]
    on_nodes = Counter(pod["spec"]["nodeName"] for pod in pods if workload(pod) == "perception-gateway")
    in_zones = Counter(
        zones[pod["spec"]["nodeName"]]["topology.kubernetes.io/zone"]
        for pod in pods
        if workload(pod) == "perception-gateway"
    )
    assert max(on_nodes.values()) == 1
    assert max(in_zones.values()) - min(in_zones.values()) <= 1
    shown(
        f"{_CAMERAS} cameras in {_CAMERAS // _CAMERAS_PER_AGENT} agents, {_GATEWAYS} gateways, 4 x {_TASK_PODS} task "
        f"services, {len(gpus)} Pods of Triton: {wanted} Pods; helm install {installed:.0f} s, all on nodes after "
        f"{scheduled:.0f} s, all ready after {ready:.0f} s; gateways: one a node, "
        f"{'/'.join(map(str, sorted(in_zones.values())))} in the zones"
    )


def _scheduled(release: Release) -> int:
    return sum("nodeName" in pod["spec"] for pod in release.pods())


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_scaling_can_be_switched_on_without_going_under_the_minimum(trial: Release, kind: str, shown: Shown) -> None:
    nodes.bring_up(trial.cluster, [*map(nodes.cpu_node, range(3)), nodes.gpu_node(0)])
    trial.values = "triton: {poolDefaults: {replicas: 3}}\ngateway: {replicas: 4}"
    trial.install("--wait", "--timeout=120s")
    before = trial.replicas()
    trial.values += f"\nautoscaling: {{kind: {kind}, prometheus: {{serverAddress: 'http://prometheus'}}}}"
    with watching.ready_pods(trial.cluster, trial.namespace) as ready:
        trial.upgrade("--wait", "--timeout=120s")
        trial.wait_until_ready()
    least = {name: ready.least[name] for name in before}
    assert least == before
    # And what a scaler has decided stays, whatever else is changed.
    trial.cluster.kubectl("scale", "deployment/perception-gateway", "--namespace", trial.namespace, "--replicas", "5")
    trial.wait_until_ready()
    trial.upgrade("--set", "logLevel=DEBUG", "--wait", "--timeout=120s")
    assert trial.replicas() == {**before, "perception-gateway": 5}
    shown(f"none → {kind}: {before['perception-gateway']} gateways stay, and 5 that a scaler wants stay over an update")


def test_scaled_deployments_get_their_least_number_of_pods(trial: Release, shown: Shown) -> None:
    nodes.bring_up(trial.cluster, [*map(nodes.cpu_node, range(3)), nodes.gpu_node(0)])
    trial.values = "autoscaling: {kind: hpa}"
    trial.install()
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"]["minReplicas"]
        for one in trial.cluster.get("horizontalpodautoscalers", trial.namespace)
    }
    assert scaled

    def all_there() -> bool:
        replicas = trial.replicas()
        return all(replicas[name] >= least for name, least in scaled.items())

    seconds = trial.cluster.wait("the least number of Pods", all_there, seconds=90)
    shown(f"{len(scaled)} Deployments have it {seconds:.0f} s after helm install, though no metric is served here")
