"""Where Triton's Pods go: to nodes with the GPUs that they ask for, and nowhere else."""

from __future__ import annotations

import pytest

from tests.cluster import nodes
from tests.cluster.conftest import Shown
from tests.cluster.control_plane import Object
from tests.cluster.release import Release
from tests.cluster.watching import is_ready, workload

pytestmark = pytest.mark.timeout(300)

_TRITON = "app.kubernetes.io/component=triton"
_MIG = "nvidia.com/mig-1g.10gb"
_SHARED = "nvidia.com/gpu.shared"
# Pools on whole GPUs of one product, on slices of a GPU, and on a GPU that several share in turn.
_POOLS = f"""
triton:
  pools:
    default: {{models: []}}
    large:
      models: [instance_segmentation]
      replicas: 3
      gpu: {{products: [NVIDIA-A100-SXM4-80GB, NVIDIA-H100-80GB-HBM3]}}
    sliced:
      models: [semantic_segmentation]
      replicas: 2
      gpu: {{resource: {_MIG}}}
    shared:
      models: [detection, classification]
      replicas: 2
      gpu: {{resource: {_SHARED}}}
"""
_NODES = [
    *map(nodes.cpu_node, range(3)),
    nodes.gpu_node(0, "NVIDIA-L4"),
    nodes.gpu_node(1, "NVIDIA-A100-SXM4-80GB"),
    nodes.gpu_node(2, "NVIDIA-H100-80GB-HBM3"),
    nodes.gpu_node(3, "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", {_MIG: 7}),
    nodes.gpu_node(4, "NVIDIA-A10-SHARED", {_SHARED: 8}),
]


def test_triton_lands_only_on_nodes_with_its_gpus(trial: Release, shown: Shown) -> None:
    nodes.bring_up(trial.cluster, _NODES)
    trial.values = _POOLS
    trial.install("--wait", "--timeout=120s")
    places: dict[str, set[str]] = {}
    for pod in trial.pods():
        places.setdefault(workload(pod).removeprefix("perception-"), set()).add(pod["spec"]["nodeName"])
    assert places["triton-large"] <= {"gpu-1", "gpu-2"}
    assert places["triton-sliced"] == {"gpu-3"}
    assert places["triton-shared"] == {"gpu-4"}
    for name, found in places.items():
        if not name.startswith("triton-"):
            assert all(node.startswith("cpu-") for node in found), f"{name} is on {found}"
    pools = {name: ", ".join(sorted(found)) for name, found in sorted(places.items()) if name.startswith("triton-")}
    shown("; ".join(f"{name} on {found}" for name, found in pools.items()) + "; all others on nodes without GPUs")


def test_without_a_gpu_triton_waits_and_says_why(trial: Release, shown: Shown) -> None:
    nodes.bring_up(trial.cluster, [nodes.cpu_node(number) for number in range(3)])
    trial.install()
    message = _waits(trial, trial.pods(_TRITON))
    assert "3 Insufficient nvidia.com/gpu" in message
    others = [pod for pod in trial.pods() if "-triton-" not in workload(pod)]
    trial.cluster.wait("the other Pods", lambda: _all_ready(trial, len(others)))
    shown(f"Triton's Pod is Pending, {len(others)} others run: {message}")
    # As soon as there is one, it runs.
    nodes.bring_up(trial.cluster, [nodes.gpu_node(0)])
    seconds = trial.wait_until_ready()
    (pod,) = trial.pods(_TRITON)
    assert pod["spec"]["nodeName"] == "gpu-0"
    shown(f"{seconds:.0f} s after a node with GPUs is there, Triton's Pod is ready on it")


def test_with_other_gpus_than_wanted_triton_waits_and_says_why(trial: Release, shown: Shown) -> None:
    nodes.bring_up(trial.cluster, [nodes.cpu_node(0), nodes.gpu_node(0, "NVIDIA-L4")])
    trial.values = "triton: {poolDefaults: {gpu: {products: [NVIDIA-H100-80GB-HBM3]}}}"
    trial.install()
    message = _waits(trial, trial.pods(_TRITON))
    assert "didn't match Pod's node affinity/selector" in message
    shown(f"wanted an H100, found an L4: {message}")


def test_when_gpus_are_used_up_triton_waits_and_the_rest_goes_on(trial: Release, shown: Shown) -> None:
    nodes.bring_up(trial.cluster, [nodes.cpu_node(0), nodes.gpu_node(0)])
    trial.values = "triton: {poolDefaults: {replicas: 6}}"
    trial.install()
    cluster = trial.cluster
    cluster.wait("four Pods of Triton that run", lambda: sum(map(is_ready, trial.pods(_TRITON))) == 4)
    waiting = [pod for pod in trial.pods(_TRITON) if "nodeName" not in pod["spec"]]
    assert len(waiting) == 2
    message = _waits(trial, waiting)
    assert "2 Insufficient nvidia.com/gpu" in message
    shown(f"4 of 6 Pods have the node's 4 GPUs, 2 are Pending: {message}")


def _waits(release: Release, pods: list[Object]) -> str:
    """What the scheduler says of the first of these Pods, which has to be Pending."""
    name = pods[0]["metadata"]["name"] if pods else ""

    def said() -> list[str]:
        nonlocal name
        name = name or next((pod["metadata"]["name"] for pod in release.pods(_TRITON)), "")
        events = release.cluster.get("events", release.namespace)
        return [
            one["message"]
            for one in events
            if one["involvedObject"]["name"] == name and one["reason"] == "FailedScheduling"
        ]

    release.cluster.wait("an event of the scheduler", lambda: bool(said()))
    (pod,) = (one for one in release.pods(_TRITON) if one["metadata"]["name"] == name)
    assert pod["status"]["phase"] == "Pending"
    assert "nodeName" not in pod["spec"]
    return said()[-1]


def _all_ready(release: Release, count: int) -> bool:
    return sum(is_ready(pod) for pod in release.pods() if "-triton-" not in workload(pod)) >= count
