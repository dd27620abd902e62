"""The chart's Triton, run by the real server: it takes the arguments, its probes answer, connections grow old."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.stack.triton import DEFAULT_ENVIRONMENT, remove_shared_memory, triton_runs_here
from tests.deploy import chart
from tests.deploy.chart import needs_helm, pod_spec
from tests.support.contract_models import TASKS, write_repository
from tests.support.service import eventually
from tests.support.triton import TritonServer

pytestmark = [pytest.mark.integration, needs_helm]

MAX_AGE_SECONDS = 2
VALUES = f"triton: {{maxConnectionAgeSeconds: {MAX_AGE_SECONDS}}}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    environment = Path(os.environ.get("TRITON_ENVIRONMENT", DEFAULT_ENVIRONMENT))
    if not environment.is_dir():
        pytest.skip(f"{environment} is missing: no Triton server")
    runs, reason = triton_runs_here(environment)
    assert runs, reason
    folder = tmp_path_factory.mktemp("triton")
    started = TritonServer(write_repository(folder / "models"), TASKS, folder / "run", environment)
    (container,) = pod_spec(chart.named("Deployment", "perception-triton-default", "cpu", VALUES))["containers"]
    # Of the laptop's own command only what says where it lies and listens; all else is the chart's.
    own = ("--model-repository", "--backend-", "--cache-", "--grpc-port", "--http-port", "--metrics-port")
    kept = [one for one in started.command.argv[1:] if one.startswith(own)]
    given = [one for one in container["args"][1:] if not one.startswith(own)]
    started.command = replace(started.command, argv=(started.command.argv[0], *kept, *given))
    started.start()
    eventually(lambda: _listens(started.ports.http) and _listens(started.ports.metrics))  # both after gRPC
    yield started
    started.stop()
    remove_shared_memory(started.command.shared_memory_prefix)


def test_the_probes_answer(server: TritonServer) -> None:
    # Native gRPC probes ask the standard health service, with no name of a service.
    with grpc.insecure_channel(server.url) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    _get(server.ports.http, "/v2/health/live")  # raises for any status but 200


def test_what_scaling_asks_for_is_exported(server: TritonServer) -> None:
    exported = _get(server.ports.metrics, "/metrics")
    for name in ("nv_inference_queue_duration_us", "nv_inference_request_success"):
        assert f"\n# TYPE {name} counter" in f"\n{exported}"


def test_a_connection_ends_with_its_age_and_no_call_fails(server: TritonServer) -> None:
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(server.url) as channel:
        channel.subscribe(states.append)
        health = health_pb2_grpc.HealthStub(channel)
        end = time.monotonic() + 3 * MAX_AGE_SECONDS
        while time.monotonic() < end:
            health.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
            time.sleep(0.02)
    assert states.count(grpc.ChannelConnectivity.READY) > 1


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())
