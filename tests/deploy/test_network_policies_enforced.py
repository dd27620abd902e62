"""The chart's NetworkPolicies in force over real processes: what they allow works, and nothing else connects.

Every Pod is a network namespace of this machine, with the chart's own command, settings and ports; a DNS server stands
for the cluster's, and the kernel's packet filter for the network plugin. Triton runs as its real server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import simplejpeg

from services.stack.triton import DEFAULT_ENVIRONMENT, TritonPorts, triton_command, triton_runs_here
from tests.deploy import chart
from tests.deploy.chart import NAMESPACE, Object, needs_helm, pod_spec, selects
from tests.support import pod_network
from tests.support.cameras import frame
from tests.support.contract_models import TASKS, write_repository
from tests.support.mjpeg_server import mjpeg_camera
from tests.support.name_server import NameServer
from tests.support.pod_network import Pod, PodNetwork
from tests.support.service import PROJECT, eventually
from tests.support.stack import TAXONOMY

pytestmark = [pytest.mark.integration, needs_helm, pytest.mark.timeout(180)]

VALUES = """
gateway: {taxonomyConfigMap: contract}
cameras: {agents: {yard: {cameras: [{name: gate, source: "http://10.0.20.7:8554/video"}]}}}
networkPolicy:
  cameraSources: [{cidr: 10.0.20.0/24, ports: [8554]}]
  gatewayClients: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: parking}}}]
"""
TASK_SERVICES = ("detection", "instance-segmentation", "semantic-segmentation", "classification")
OUTSIDE = {
    "dns": Pod("dns", "10.244.1.1", "kube-system", {"k8s-app": "kube-dns"}),
    "prometheus": Pod("prometheus", "10.244.1.2", "monitoring", {"app": "prometheus"}),
    "client": Pod("client", "10.244.1.3", "parking", {"app": "backend"}),
    "stranger": Pod("stranger", "10.244.1.4", "elsewhere", {"app.kubernetes.io/component": "gateway"}),
    "neighbour": Pod("neighbour", "10.244.1.5", NAMESPACE, {"app": "neighbour"}),
    "source": Pod("source", "10.0.20.7"),
}
EDGES = {
    ("camera", "gateway", "grpc"),
    ("camera", "source", "http"),
    ("viewer", "gateway", "grpc"),
    ("viewer", "camera", "grpc"),
    *(("gateway", task, "grpc") for task in TASK_SERVICES),
    *((task, "triton", "grpc") for task in TASK_SERVICES),
    ("test", "gateway", "grpc"),
    ("test", "viewer", "http"),
    ("client", "gateway", "grpc"),
    *(("prometheus", called, "metrics") for called in ("gateway", *TASK_SERVICES, "triton", "camera", "viewer")),
    # No policy of ours holds them back, and the camera's network lets everyone in.
    *((caller, "source", "http") for caller in ("dns", "prometheus", "client", "stranger", "neighbour")),
}
"""Who reaches whom, on which port."""


@dataclass
class Cluster:
    """Running Pods by component. ports: where each listens, by the port's name."""

    network: PodNetwork
    pods: dict[str, Pod]
    ports: dict[str, dict[str, int]]


def _component(found: Object) -> str:
    return str(found["metadata"]["labels"]["app.kubernetes.io/component"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if lacks := pod_network.missing():
        pytest.skip(lacks)
    environment = Path(os.environ.get("TRITON_ENVIRONMENT", DEFAULT_ENVIRONMENT))
    runs, reason = triton_runs_here(environment) if environment.is_dir() else (False, f"{environment} is missing")
    if not runs:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        network = stack.enter_context(PodNetwork())
        deployments = {_component(one): one for one in chart.objects("Deployment", values=VALUES)}
        (tester,) = chart.objects("Pod", values=VALUES)
        pods = dict(OUTSIDE)
        for number, (component, owner) in enumerate([*deployments.items(), ("test", {"spec": {"template": tester}})]):
            labels = owner["spec"]["template"]["metadata"]["labels"]
            pods[component] = Pod(component, f"10.244.0.{number + 1}", NAMESPACE, labels)
        for pod in pods.values():
            network.add(pod)
            network.resolve(pod, OUTSIDE["dns"].address, NAMESPACE)
        _enforce(network, pods)
        names = network.within(pods["dns"], partial(NameServer, pods["dns"].address, 53))
        stack.enter_context(names)
        for service in chart.objects("Service", values=VALUES):
            selector, name = service["spec"]["selector"], service["metadata"]["name"]
            chosen = [pod.address for pod in pods.values() if pod.labels and selects(selector, dict(pod.labels))]
            names.addresses[f"{name}.{NAMESPACE}.svc.cluster.local"] += chosen
        jpegs = [simplejpeg.encode_jpeg(frame(index).image, 95, "RGB") for index in range(20)]
        camera = mjpeg_camera(jpegs, 5, 8554, OUTSIDE["source"].address)
        network.within(pods["source"], partial(stack.enter_context, camera))
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_stop, processes)
        for component, deployment in deployments.items():
            processes.append(_start(network, pods[component], deployment, folder, environment))
        ports = {component: _ports(deployment) for component, deployment in deployments.items()}
        running = Cluster(network, pods, ports | {"source": {"http": 8554}})
        _wait_until_all_listen(running)
        yield running


def _enforce(network: PodNetwork, pods: Mapping[str, Pod]) -> None:
    network.enforce(list(pods.values()), chart.objects("NetworkPolicy", values=VALUES), NAMESPACE)


def _wait_until_all_listen(cluster: Cluster) -> None:
    """As seen from inside each Pod."""
    for component, ports in cluster.ports.items():
        pod = cluster.pods[component]
        places = {(pod.address, port) for port in ports.values()}
        eventually(lambda pod=pod, places=places: cluster.network.reaches(pod, places) == places)  # type: ignore[misc]


def _ports(deployment: Object) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in pod_spec(deployment)["containers"][0]["ports"]}


def _stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def _start(
    network: PodNetwork, pod: Pod, deployment: Object, folder: Path, triton_environment: Path
) -> subprocess.Popen[bytes]:
    """Runs a Deployment's container in its Pod."""
    (container,) = pod_spec(deployment)["containers"]
    if pod.name == "triton":
        ports = TritonPorts(**_ports(deployment))
        repository = write_repository(folder / "models")
        laptop = triton_command(repository, TASKS, folder / "triton", ports, triton_environment)
        command = [word.replace("-address=127.0.0.1", "-address=0.0.0.0") for word in laptop.argv]
        environment, directory = dict(laptop.env), laptop.cwd
    else:
        (folder / "taxonomy.yaml").write_text(TAXONOMY)
        _write_camera_file(folder)
        command = [sys.executable, *container["command"][1:]]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        environment |= {variable["name"]: variable["value"] for variable in container["env"]}
        directory = PROJECT
        # What Kubernetes mounts at /etc/perception.
        command = [word.replace("/etc/perception", str(folder)) for word in command]
        environment = {key: value.replace("/etc/perception", str(folder)) for key, value in environment.items()}
    in_pod = network.command(pod, *command)
    with (folder / f"{pod.name}.log").open("wb") as log:
        return subprocess.Popen(
            in_pod, env=environment, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _write_camera_file(folder: Path) -> None:
    (secret,) = (one for one in chart.objects("Secret", values=VALUES) if "cameras.yaml" in one["stringData"])
    (folder / "cameras.yaml").write_text(secret["stringData"]["cameras.yaml"])


def test_a_frame_goes_through_the_whole_system(cluster: Cluster) -> None:
    """What `helm test` runs, from its own Pod: by name, over every edge from the gateway to Triton."""
    (tester,) = chart.objects("Pod", values=VALUES)
    (container,) = tester["spec"]["containers"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    environment |= {variable["name"]: variable["value"] for variable in container["env"]}
    command = cluster.network.command(cluster.pods["test"], sys.executable, *container["command"][1:])
    ran: list[subprocess.CompletedProcess[str]] = []

    def works() -> bool:
        ran[:] = [subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)]
        return ran[0].returncode == 0

    try:
        eventually(works)
    except AssertionError:
        raise AssertionError(ran[0].stdout + ran[0].stderr) from None
    assert "instance_segmentation: OK" in ran[0].stdout
    assert 'viewer: {"status": "SERVING"}' in ran[0].stdout


def test_a_camera_is_perceived_and_prometheus_sees_it(cluster: Cluster) -> None:
    place = f"http://{cluster.pods['camera'].address}:{cluster.ports['camera']['metrics']}/metrics"

    def exported() -> str:
        with urllib.request.urlopen(place, timeout=10) as answer:
            return str(answer.read().decode())

    def perceived() -> bool:
        lines = cluster.network.within(cluster.pods["prometheus"], exported).splitlines()
        (line,) = (one for one in lines if one.startswith("perception_camera_frames_total") and '"perceived"' in one)
        return float(line.rpartition(" ")[2]) > 3

    eventually(perceived)


def test_only_the_edges_of_the_architecture_connect(cluster: Cluster) -> None:
    ways = {
        (caller, called, name)
        for caller in cluster.pods
        for called, ports in cluster.ports.items()
        for name in ports
        if caller != called
    }
    _enforce(cluster.network, cluster.pods)
    found = _open(cluster)
    print(f"{len(ways)} ways tried, {len(found)} open")
    assert found == EDGES
    # All others lead somewhere as well: it is the policies that hold them back.
    cluster.network.lift(cluster.pods.values())
    assert _open(cluster) == ways


def _open(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Who reaches whom, on which port, tried from all Pods at once."""
    places = {
        (cluster.pods[called].address, port): (called, name)
        for called, ports in cluster.ports.items()
        for name, port in ports.items()
    }

    def try_from(caller: str) -> set[tuple[str, str, str]]:
        pod = cluster.pods[caller]
        others = [place for place in places if place[0] != pod.address]
        return {(caller, *places[place]) for place in cluster.network.reaches(pod, others)}

    with ThreadPoolExecutor(len(cluster.pods)) as pool:
        return set().union(*pool.map(try_from, cluster.pods))
