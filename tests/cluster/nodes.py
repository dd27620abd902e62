"""Nodes for KWOK to simulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.cluster.control_plane import ControlPlane, Object

_ZONES = ("north", "east", "south")


def cpu_node(number: int, cpu: int = 16) -> Object:
    """A node without a GPU; numbers go round the zones."""
    return _node(f"cpu-{number}", number, cpu, {}, {}, [])


def gpu_node(number: int, product: str = "NVIDIA-L4", resources: Mapping[str, int] | None = None) -> Object:
    """A node with four GPUs, or with `resources` of them, labelled and tainted as NVIDIA's operator does."""
    taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    return _node(
        f"gpu-{number}", number, 32, {"nvidia.com/gpu.product": product}, resources or {"nvidia.com/gpu": 4}, [taint]
    )


def _node(
    name: str,
    number: int,
    cpu: int,
    labels: Mapping[str, str],
    resources: Mapping[str, int],
    taints: Sequence[Mapping[str, str]],
) -> Object:
    room = {"cpu": str(cpu), "memory": f"{4 * cpu}Gi", "pods": "110", "ephemeral-storage": "200Gi"}
    room |= {resource: str(count) for resource, count in resources.items()}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": _ZONES[number % len(_ZONES)],
                **labels,
            },
        },
        "spec": {"taints": list(taints)},
        "status": {"capacity": room, "allocatable": room},
    }


def bring_up(cluster: ControlPlane, nodes: Sequence[Object]) -> float:
    """Creates nodes and waits until all of them take Pods; how many seconds that took."""
    cluster.create(nodes)
    return cluster.wait(f"{len(nodes)} nodes that take Pods", lambda: _takers(cluster) >= len(nodes), seconds=180)


def take_down(cluster: ControlPlane) -> None:
    """Removes all nodes."""
    cluster.kubectl("delete", "nodes", "--all")


def _takers(cluster: ControlPlane) -> int:
    keys = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    found = cluster.get("nodes")
    return sum(_is_ready(node) and not keys & _taints(node) for node in found)


def _is_ready(node: Object) -> bool:
    conditions: list[dict[str, Any]] = node["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _taints(node: Object) -> set[str]:
    return {taint["key"] for taint in node["spec"].get("taints", [])}
