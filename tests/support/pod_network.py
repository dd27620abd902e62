"""A network of Pods on this machine: a network namespace each, on one bridge, with NetworkPolicies put into force.

As a cluster's network plugin does it: the policies that select a Pod become rules of the kernel's packet filter, in the
Pod's own namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
Policy = dict[str, Any]

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_RESOLVER = Path("/etc/netns")
_CONNECT_SECONDS = 1.5


def missing() -> str:
    """What this machine lacks for such a network; empty where it lacks nothing."""
    if programs := [program for program in ("ip", "nft") if not shutil.which(program)]:
        return f"needs {' and '.join(programs)} (Debian: iproute2, nftables)"
    if os.geteuid() != 0:
        return "needs root, who may make network namespaces"
    try:
        with PodNetwork() as network:
            network.enforce([network.add(Pod("probe", "10.244.255.1"))], [], "")
    except subprocess.CalledProcessError as error:
        return f"the kernel lets none make namespaces with veth, bridge and nf_tables: {error.stderr.strip()}"
    return ""


@dataclass(frozen=True)
class Pod:
    """A Pod, or whatever else has an address: policies know it by its labels and those of its namespace."""

    name: str
    address: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def namespace_labels(self) -> dict[str, str]:
        """The one label that Kubernetes gives every namespace."""
        return {"kubernetes.io/metadata.name": self.namespace}


class PodNetwork:
    """The namespaces of the Pods that are added, until the end of the `with`."""

    def __init__(self) -> None:
        self._prefix = f"perception-{os.getpid()}"
        self._node = f"{self._prefix}-node"
        self._pods: dict[str, str] = {}

    def __enter__(self) -> PodNetwork:
        self._make(self._node)
        _run("ip", "-n", self._node, "link", "add", "pods", "type", "bridge")
        _run("ip", "-n", self._node, "link", "set", "pods", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in (*self._pods.values(), self._node):
            subprocess.run(["ip", "netns", "delete", name], check=False)
            shutil.rmtree(_RESOLVER / name, ignore_errors=True)

    def add(self, pod: Pod) -> Pod:
        """Gives a Pod its namespace and its address."""
        name = f"{self._prefix}-{len(self._pods)}"
        link = f"pod{len(self._pods)}"
        self._pods[pod.name] = name
        self._make(name)
        _run("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", link, "netns", self._node)
        _run("ip", "-n", self._node, "link", "set", link, "master", "pods", "up")
        _run("ip", "-n", name, "address", "add", f"{pod.address}/32", "dev", "eth0")
        _run("ip", "-n", name, "link", "set", "eth0", "up")
        _run("ip", "-n", name, "route", "add", "default", "dev", "eth0")
        return pod

    def resolve(self, pod: Pod, name_server: str, namespace: str) -> None:
        """Lets the Pod's processes ask a DNS server, as Kubernetes sets it up."""
        folder = _RESOLVER / self._pods[pod.name]
        folder.mkdir(parents=True, exist_ok=True)
        search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local"
        (folder / "resolv.conf").write_text(f"nameserver {name_server}\nsearch {search}\noptions ndots:5\n")

    def enforce(self, pods: Sequence[Pod], policies: Sequence[Policy], namespace: str) -> None:
        """Puts the policies of a namespace into force, and none else."""
        for pod in pods:
            _run(
                "ip",
                "netns",
                "exec",
                self._pods[pod.name],
                "nft",
                "-f",
                "-",
                given=rules(pod, pods, policies if pod.namespace == namespace else ()),
            )

    def lift(self, pods: Iterable[Pod]) -> None:
        """Takes all policies out of force."""
        for pod in pods:
            _run("ip", "netns", "exec", self._pods[pod.name], "nft", "flush", "ruleset")

    def command(self, pod: Pod, *command: str) -> list[str]:
        """What runs a command in a Pod."""
        return ["ip", "netns", "exec", self._pods[pod.name], *command]

    def within(self, pod: Pod, function: Callable[[], Result]) -> Result:
        """Calls a function whose sockets are the Pod's, in a thread of its own. Raises what it raises."""
        found: list[Result] = []
        failures: list[Exception] = []

        def call() -> None:
            try:
                _enter(self._pods[pod.name])
                found.append(function())
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        if failures:
            raise failures[0]
        return found[0]

    def reaches(self, pod: Pod, places: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Which of the places, address and port, take a TCP connection from the Pod."""
        return self.within(pod, lambda: _connect(places))

    def _make(self, name: str) -> None:
        _run("ip", "netns", "add", name)
        _run("ip", "-n", name, "link", "set", "lo", "up")


def rules(pod: Pod, pods: Sequence[Pod], policies: Sequence[Policy]) -> str:
    """The packet filter of a Pod: what nft reads.

    policies: of its namespace. A direction is open until a policy of that type selects the Pod; then only what one of
    these allows passes.
    """
    chains = (_chain(direction, pod, pods, policies) for direction in ("Ingress", "Egress"))
    return "flush ruleset\ntable inet policies {\n" + "".join(chains) + "}\n"


def _chain(direction: str, pod: Pod, pods: Sequence[Pod], policies: Sequence[Policy]) -> str:
    hook, interface, address = ("input", "iif", "saddr") if direction == "Ingress" else ("output", "oif", "daddr")
    selecting = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and _matches(policy["spec"]["podSelector"], pod.labels)
    ]
    allowed = []
    for spec in selecting:
        for rule in spec.get(direction.lower(), []):
            addresses = {
                found
                for peer in rule["from" if direction == "Ingress" else "to"]
                for found in _addresses(peer, pod, pods)
            }
            for port in rule["ports"] if addresses else []:
                peers = ", ".join(sorted(addresses))
                allowed.append(f"ip {address} {{ {peers} }} {port['protocol'].lower()} dport {port['port']} accept")
    default = "drop" if selecting else "accept"
    lines = [f"type filter hook {hook} priority 0; policy {default};", f"{interface} lo accept"]
    lines += ["ct state established,related accept", *allowed]
    return f"  chain {hook} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def _addresses(peer: Policy, pod: Pod, pods: Sequence[Pod]) -> set[str]:
    """Whom a peer of a policy stands for."""
    if "ipBlock" in peer:
        assert peer["ipBlock"].keys() == {"cidr"}
        return {peer["ipBlock"]["cidr"]}
    return {
        other.address
        for other in pods
        if (
            _matches(peer["namespaceSelector"], other.namespace_labels)
            if "namespaceSelector" in peer
            else other.namespace == pod.namespace
        )
        and _matches(peer.get("podSelector", {}), other.labels)
    }


def _matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}, f"cannot evaluate {json.dumps(selector)}"
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _connect(places: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    connections: dict[socket.socket, tuple[str, int]] = {}
    reached = set()
    with contextlib.ExitStack() as stack:
        for place in places:
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(place)
            connections[connection] = place
        waiting = list(connections)
        while waiting and (ready := select.select([], waiting, [], _CONNECT_SECONDS)[1]):
            for connection in ready:
                waiting.remove(connection)
                if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    reached.add(connections[connection])
    return reached


def _enter(name: str) -> None:
    """Moves this thread into a network namespace."""
    with Path("/run/netns", name).open() as namespace:
        if _LIBC.setns(namespace.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")


def _run(*command: str, given: str = "") -> None:
    subprocess.run(command, input=given, check=True, capture_output=True, text=True)
