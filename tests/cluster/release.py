"""A release of the chart on the cluster, as an operator makes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from deploy.helm.chart_documents import CHART
from tests.cluster.control_plane import ControlPlane, Object
from tests.deploy.chart import PRESETS, RELEASE

# Kept by Kubernetes about what was, or about nodes.
_NOT_COUNTED = {"events", "events.events.k8s.io", "leases.coordination.k8s.io", "componentstatuses"}


@dataclass
class Release:
    """The chart's release in a namespace of its own, which enforces restricted Pod Security."""

    cluster: ControlPlane
    namespace: str
    preset: str = "default"
    values: str = ""
    before: set[str] = field(default_factory=set)

    def install(self, *arguments: str) -> None:
        """Makes the namespace and runs `helm install`; arguments such as `--wait`."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        metadata = {"name": self.namespace, "labels": labels}
        self.cluster.create([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        self.cluster.wait(
            "the namespace's own objects",
            lambda: all(self.cluster.get(kind, self.namespace) for kind in ("serviceaccounts", "configmaps")),
        )
        self.before = everything(self.cluster)
        self._helm("install", *arguments)

    def upgrade(self, *arguments: str) -> None:
        """Runs `helm upgrade` with the same preset and values."""
        self._helm("upgrade", *arguments)

    def uninstall(self) -> None:
        """Runs `helm uninstall`."""
        self.cluster.helm("uninstall", RELEASE, "--namespace", self.namespace)

    def remove(self) -> None:
        """Removes the namespace and everything in it."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--ignore-not-found")

    def pods(self, selector: str = "") -> list[Object]:
        """Its Pods."""
        return self.cluster.get("pods", self.namespace, selector)

    def deployments(self) -> list[Object]:
        """Its Deployments."""
        return self.cluster.get("deployments", self.namespace)

    def replicas(self) -> dict[str, int]:
        """How many Pods each Deployment is to have."""
        return {one["metadata"]["name"]: one["spec"]["replicas"] for one in self.deployments()}

    def wait_until_ready(self, seconds: float = 120.0) -> float:
        """Waits until every Deployment has all its Pods, of its last version; how many seconds that took."""
        return self.cluster.wait(
            "Deployments that are complete", lambda: all(map(_is_complete, self.deployments())), seconds
        )

    def warnings(self) -> list[str]:
        """What Kubernetes complains of in the namespace."""
        found = self.cluster.get("events", self.namespace)
        return [f"{one['reason']}: {one['message']}" for one in found if one["type"] == "Warning"]

    def scale_as_keda_does(self) -> None:
        """Gives what KEDA would scale its least number of Pods; KEDA itself is not here."""
        for scaled in self.cluster.get("scaledobjects.keda.sh", self.namespace):
            target = f"deployment/{scaled['spec']['scaleTargetRef']['name']}"
            least = str(scaled["spec"]["minReplicaCount"])
            self.cluster.kubectl("scale", target, "--namespace", self.namespace, "--replicas", least)

    def _helm(self, command: str, *arguments: str) -> None:
        files = [argument for name in PRESETS[self.preset] for argument in ("--values", str(CHART / name))]
        self.cluster.helm(
            command, RELEASE, str(CHART), "--namespace", self.namespace, *files, *arguments, values=self.values
        )


def everything(cluster: ControlPlane) -> set[str]:
    """Every object of every kind in the cluster, as `kind namespace/name`."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()
    columns = "custom-columns=:.kind,:.metadata.namespace,:.metadata.name"
    counted = ",".join(sorted(set(kinds) - _NOT_COUNTED))
    lines = cluster.kubectl("get", counted, "--all-namespaces", "--ignore-not-found", "-o", columns).splitlines()
    return {"{} {}/{}".format(*line.split()) for line in lines if line.strip()}


def _is_complete(deployment: Object) -> bool:
    status, wanted = deployment["status"], deployment["spec"]["replicas"]
    return status.get("observedGeneration") == deployment["metadata"]["generation"] and all(
        status.get(count, 0) == wanted for count in ("replicas", "updatedReplicas", "availableReplicas")
    )
