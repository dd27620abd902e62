"""Traffic follows replicas that come and go, and no request fails with one: triton-inference-server/server#6177.

Replicas are real processes on loopback addresses behind one name, which a DNS server of this test answers as Kubernetes
answers that of a headless Service. Figures come from the replicas' own metrics.
"""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from services.stack.triton import TritonPorts, remove_shared_memory
from tests.support.contract_models import write_model
from tests.support.load import Load
from tests.support.name_server import NameServer
from tests.support.service import ServiceProcess, eventually
from tests.support.stack import TAXONOMY
from tests.support.triton import TritonServer, free_ports

pytestmark = pytest.mark.integration

AGE_SECONDS = 2
"""Of connections; ten, where nothing else is set."""
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
REQUESTS = 60
"""Over which the load is looked at: about a second of it."""
BURDEN = 4
"""Makes a request take some 20 ms, so that some are at work in a replica whenever it dies."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A detection model and a taxonomy."""
    (tmp_path / "contract.yaml").write_text(TAXONOMY)
    write_model(tmp_path / "models", "detection", burden=BURDEN)
    return tmp_path


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def shares(counted: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """Which part of the work each replica takes, by address, over so many requests that it means something."""
    before = counted()
    done: dict[str, float] = {}

    def enough() -> bool:
        done.update({host: count - before.get(host, 0.0) for host, count in counted().items()})
        return sum(done.values()) >= REQUESTS

    eventually(enough)
    return {host: count / sum(done.values()) for host, count in done.items()}


def seconds_until(holds: Callable[[dict[str, float]], bool], counted: Callable[[], Mapping[str, float]]) -> float:
    """How long it takes until the load is spread as wanted."""
    began = time.monotonic()
    while not holds(found := shares(counted)):
        assert time.monotonic() - began < 15, found
    return time.monotonic() - began


def total(exported: str, counts: Callable[[Sample], bool]) -> float:
    """The sum of the samples that count in what a process exports."""
    samples = (sample for family in text_string_to_metric_families(exported) for sample in family.samples)
    return sum(sample.value for sample in samples if counts(sample))


def in_words(found: Mapping[str, float]) -> str:
    return ", ".join(f"{host} {share:.0%}" for host, share in sorted(found.items()))


def test_replicas_of_a_task_service_come_and_go(directory: Path, processes: ExitStack) -> None:
    port, metrics_port = free_ports(2)
    running: dict[str, ServiceProcess] = {}

    def start(*hosts: str) -> None:
        settings = {"PORT": port, "METRICS_PORT": metrics_port, "MAX_CONNECTION_AGE_SECONDS": AGE_SECONDS}
        settings |= {"ENGINE": "onnxruntime", "MODEL_REPOSITORY": directory / "models"}
        started = {host: ServiceProcess("detection", directory, HOST=host, **settings) for host in hosts}
        for host, process in started.items():
            running[host] = processes.enter_context(process).wait_until_ready()

    def counted() -> dict[str, float]:
        return {
            host: total(
                process.metrics(),
                lambda sample: (
                    sample.name == "perception_requests_total" and sample.labels["method"].endswith("/Detect")
                ),
            )
            for host, process in running.items()
        }

    names = processes.enter_context(NameServer())
    addresses = names.addresses["detection.test"]
    addresses += HOSTS[:3]
    start(*HOSTS[:3])
    gateway = ServiceProcess(
        "gateway",
        directory,
        DETECTION_URL=names.target("detection.test", port),
        TAXONOMY=directory / "contract.yaml",
    )
    processes.enter_context(gateway).wait_until_ready()
    with Load(gateway.address) as load:
        three = shares(counted)
        assert min(three.values()) > 1 / 6, three

        start(HOSTS[3])
        addresses.append(HOSTS[3])
        added_seconds = seconds_until(lambda found: found[HOSTS[3]] > 0.15, counted)
        four = shares(counted)

        # As when a node dies: the name still leads there for a while.
        running[HOSTS[0]].process.kill()
        running.pop(HOSTS[0]).process.wait()
        after_kill = shares(counted)
        addresses.remove(HOSTS[0])

        # As in an update: SIGTERM, while callers are still connected.
        leaving = running.pop(HOSTS[1])
        leaving.terminate()
        assert leaving.process.wait(20) == 0
        addresses.remove(HOSTS[1])
        after_stop = shares(counted)
    print(
        f"\nthree: {in_words(three)}; {added_seconds:.1f} s after a fourth came: {in_words(four)}; one killed: "
        f"{in_words(after_kill)}; one stopped: {in_words(after_stop)}; {load.answered} requests, "
        f"{len(load.failures)} failed, the slowest took {load.slowest_seconds:.2f} s"
    )
    assert not load.failures, load.failures[:5]
    # Half of a fair share at least; on a busy machine requests take unequal times.
    assert min(four.values()) > 1 / 8
    assert min(after_kill.values()) > 1 / 6
    assert min(after_stop.values()) > 1 / 4


def test_tritons_come_and_go(directory: Path, processes: ExitStack, triton_environment: Path) -> None:
    ports = TritonPorts(*free_ports(3))
    running: dict[str, TritonServer] = {}

    def start(host: str) -> None:
        # The chart's arguments.
        arguments = [f"--grpc-max-connection-age={AGE_SECONDS * 1000}", "--grpc-max-connection-age-grace=10000"]
        server = TritonServer(
            directory / "models", ["detection"], directory / host, triton_environment, host, ports, arguments
        )
        processes.callback(remove_shared_memory, server.command.shared_memory_prefix)
        processes.callback(server.stop)
        running[host] = server.start()
        eventually(lambda: _listens(host, ports.metrics))  # after gRPC

    def counted() -> dict[str, float]:
        return {host: _inferences(f"http://{host}:{ports.metrics}/metrics") for host in running}

    names = processes.enter_context(NameServer())
    addresses = names.addresses["triton.test"]
    addresses.append(HOSTS[0])
    (directory / HOSTS[0]).mkdir()
    (directory / HOSTS[1]).mkdir()
    start(HOSTS[0])
    url = names.target("triton.test", ports.grpc)
    detection = ServiceProcess("detection", directory, ENGINE="triton", TRITON_URL=url)
    processes.enter_context(detection).wait_until_ready()
    gateway = ServiceProcess(
        "gateway", directory, DETECTION_URL=detection.address, TAXONOMY=directory / "contract.yaml"
    )
    processes.enter_context(gateway).wait_until_ready()
    with Load(gateway.address) as load:
        start(HOSTS[1])
        addresses.append(HOSTS[1])
        added_seconds = seconds_until(lambda found: found[HOSTS[1]] > 0.3, counted)
        two = shares(counted)
        running.pop(HOSTS[0]).kill()
        after_kill = load.answered
        eventually(lambda: load.answered > after_kill + 10)
        start(HOSTS[0])
        back_seconds = seconds_until(lambda found: found[HOSTS[0]] > 0.3, counted)
    print(
        f"\n{added_seconds:.1f} s after a second Triton came: {in_words(two)}; {back_seconds:.1f} s after the first, "
        f"killed meanwhile, was back it took its part; {load.answered} requests, {len(load.failures)} failed, the "
        f"slowest took {load.slowest_seconds:.2f} s"
    )
    assert not load.failures, load.failures[:5]


def _listens(host: str, port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((host, port)) == 0


def _inferences(url: str) -> float:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return total(
            answer.read().decode(),
            lambda sample: sample.name.removesuffix("_total") == "nv_inference_request_success",
        )
