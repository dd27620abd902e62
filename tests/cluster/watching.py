"""Watching what a namespace has ready while something happens to it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from http.client import HTTPException
from types import TracebackType
from urllib.parse import urlencode

from tests.cluster.control_plane import ControlPlane, Object

Count = Callable[[Iterable[Object]], Counter[str]]


class Extremes:
    """The least and the most of something that there was by name, after any change that the API server told of."""

    def __init__(self, cluster: ControlPlane, path: str, count: Count) -> None:
        self.least: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.changes = 0
        self._cluster, self._path, self._count = cluster, path, count
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._stopped = False

    def __enter__(self) -> Extremes:
        with self._cluster.stream(self._path) as answer:
            found = json.load(answer)
        self._objects: dict[str, Object] = {one["metadata"]["uid"]: one for one in found["items"]}
        self._version = found["metadata"]["resourceVersion"]
        self.least = self._count(self._objects.values())
        self.most = Counter(self.least)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(1)  # what has just happened is still on its way
        self._stopped = True

    def _follow(self) -> None:
        query = urlencode({"watch": "1", "resourceVersion": self._version})
        try:
            with self._cluster.stream(f"{self._path}?{query}") as answer:
                for line in answer:
                    if self._stopped:
                        return
                    self._take(json.loads(line))
        except (OSError, HTTPException):
            if not self._stopped:  # the API server ends before whoever listens to it
                raise

    def _take(self, event: Object) -> None:
        assert event["type"] in ("ADDED", "MODIFIED", "DELETED"), event
        uid = event["object"]["metadata"]["uid"]
        if event["type"] == "DELETED":
            self._objects.pop(uid, None)
        else:
            self._objects[uid] = event["object"]
        self.changes += 1
        now = self._count(self._objects.values())
        for name in self.least | self.most | now:
            self.least[name] = min(self.least[name], now[name])
            self.most[name] = max(self.most[name], now[name])


def ready_pods(cluster: ControlPlane, namespace: str) -> Extremes:
    """Pods of each Deployment that are ready and not on their way out."""
    return Extremes(cluster, f"/api/v1/namespaces/{namespace}/pods", _count_ready)


def all_pods(cluster: ControlPlane, namespace: str) -> Extremes:
    """Pods of each Deployment that there are at all, those on their way out among them."""
    return Extremes(cluster, f"/api/v1/namespaces/{namespace}/pods", lambda pods: Counter(map(workload, pods)))


def ready_endpoints(cluster: ControlPlane, namespace: str) -> Extremes:
    """Addresses of each Service that DNS hands out."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    return Extremes(cluster, path, _count_endpoints)


def workload(pod: Object) -> str:
    """The name of the Deployment that a Pod of the chart belongs to."""
    return str(pod["spec"]["serviceAccountName"])


def is_ready(pod: Object) -> bool:
    """Whether a Pod takes calls."""
    conditions = pod["status"].get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and any(
        one["type"] == "Ready" and one["status"] == "True" for one in conditions
    )


def _count_ready(pods: Iterable[Object]) -> Counter[str]:
    return Counter(workload(pod) for pod in pods if is_ready(pod))


def _count_endpoints(slices: Iterable[Object]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for one in slices:
        service = one["metadata"]["labels"]["kubernetes.io/service-name"]
        counted[service] += sum(bool(endpoint["conditions"].get("ready")) for endpoint in one.get("endpoints") or [])
    return counted
