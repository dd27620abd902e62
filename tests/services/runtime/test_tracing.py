"""Traces of one service: off, on, and with a collector that is away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes import rpc_attributes
from perception.convert import image_to_message
from perception.v1 import detection_pb2, detection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from services.runtime import interceptors
from tests.support.collector import Collector
from tests.support.contract_models import picture
from tests.support.service import PROJECT, ServiceProcess

REQUEST = detection_pb2.DetectRequest(image=image_to_message(picture()))
DETECT = "perception.v1.DetectionService/Detect"


def detection(directory: Path, models: Path, **settings: object) -> ServiceProcess:
    return ServiceProcess("detection", directory, ENGINE="onnxruntime", MODEL_REPOSITORY=models, **settings)


def detect(service: ServiceProcess, *metadata: tuple[str, str]) -> str:
    """Detects once. The id of the request's trace."""
    stub = detection_pb2_grpc.DetectionServiceStub(service.channel)
    answer, call = stub.Detect.with_call(REQUEST, timeout=30, metadata=metadata)
    assert answer.detections
    return str(dict(call.trailing_metadata()).get("x-trace-id", ""))


def spans_counted(service: ServiceProcess) -> dict[str, float]:
    """What became of spans, by result."""
    return {
        sample.labels["result"]: sample.value
        for family in text_string_to_metric_families(service.metrics())
        for sample in family.samples
        if sample.name == "perception_trace_spans_total"
    }


OFF: list[dict[str, str]] = [
    {},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317", "OTEL_SDK_DISABLED": "true"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4317", "OTEL_TRACES_EXPORTER": "none"},
]


def test_without_a_collector_nothing_of_opentelemetry_is_imported() -> None:
    program = f"""
import os, sys
import services.camera.cli, services.detection.__main__, services.gateway.__main__, services.viewer.server
import services.runtime.engines.triton, services.runtime.engines.onnxruntime
from perception.tracing import trace_headers
from services.runtime import tracing
for variables in {OFF}:
    os.environ |= variables
    tracing.start("test")
    with tracing.tracer.request("/a/B", ()), tracing.tracer.span("c"):
        assert (tracing.tracer.trace_id(), tracing.tracer.headers()) == ("", ())
        assert trace_headers() == ()
    tracing.stop()
    for name in variables:
        del os.environ[name]
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    environment = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_without_a_collector_a_request_has_no_trace(tmp_path: Path, small_models: Path) -> None:
    with detection(tmp_path, small_models) as service:
        service.wait_until_ready()
        assert detect(service) == ""
        assert spans_counted(service) == {}


def test_a_wrong_variable_is_named(tmp_path: Path, small_models: Path) -> None:
    service = detection(
        tmp_path, small_models, OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4317", OTEL_BSP_MAX_QUEUE_SIZE="-1"
    )
    assert service.process.wait(30) == 1
    assert "OTEL_…: max_queue_size must be a positive integer" in service.output()


def test_the_model_in_the_process_waits_and_computes(tmp_path: Path, small_models: Path) -> None:
    with (
        Collector() as collector,
        detection(
            tmp_path,
            small_models,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_BSP_SCHEDULE_DELAY=100,
            OTEL_SERVICE_NAME="of my own",
        ) as service,
    ):
        service.wait_until_ready()
        spans = collector.trace(detect(service), lambda found: any(span.name == DETECT for span in found))
        by_id = {span.span_id: span.name for span in spans}
        assert {(span.name, by_id.get(span.parent_id)) for span in spans} == {
            (DETECT, None),
            *((stage, DETECT) for stage in ("decode", "preprocess", "inference", "postprocess")),
            ("queue", "inference"),
            ("compute", "inference"),
        }
        assert {span.service for span in spans} == {"of my own"}


def test_what_is_left_is_sent_at_the_end(tmp_path: Path, small_models: Path) -> None:
    with (
        Collector() as collector,
        detection(
            tmp_path, small_models, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, OTEL_BSP_SCHEDULE_DELAY=600_000
        ) as service,
    ):
        service.wait_until_ready()
        trace = detect(service)
        assert not collector.spans
        service.terminate()
        assert service.process.wait(30) == 0
        assert {span.name for span in collector.spans if span.trace_id == trace} >= {DETECT, "compute"}


@pytest.fixture(params=["refuses", "is silent"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """A collector that is away: nobody listens, or somebody who never answers."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_collector_that_is_away_costs_no_request_anything(tmp_path: Path, small_models: Path, endpoint: str) -> None:
    settings = {"OTEL_BSP_SCHEDULE_DELAY": 50, "OTEL_BSP_MAX_QUEUE_SIZE": 64, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 32}
    with detection(tmp_path, small_models, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **settings) as service:
        service.wait_until_ready()
        slowest = 0.0
        for _ in range(100):
            started = time.perf_counter()
            assert detect(service)
            slowest = max(slowest, time.perf_counter() - started)
        # Far below any of the exporter's time limits.
        assert slowest < 2
        # Seven spans of each request; memory for 64.
        assert spans_counted(service)["dropped"] >= 7 * 100 - 64 - 32
        complaints = [record for record in service.records() if record["logger"].startswith("opentelemetry")]
        assert len(complaints) <= 1
        assert all(record["level"] == "WARNING" for record in complaints)

        started = time.perf_counter()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 0
        assert time.perf_counter() - started < 10


def test_a_collector_that_is_away_is_told_of_once(tmp_path: Path, small_models: Path) -> None:
    with closing(socket.socket()) as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        settings = {"OTEL_EXPORTER_OTLP_TIMEOUT": 0.2, "OTEL_BSP_SCHEDULE_DELAY": 50}
        with detection(tmp_path, small_models, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **settings) as service:
            service.wait_until_ready()
            for _ in range(8):
                detect(service)
                time.sleep(0.3)
            assert spans_counted(service)["failed"] >= 14
            (complaint,) = [record for record in service.records() if record["logger"].startswith("opentelemetry")]
            assert endpoint.removeprefix("http://") in complaint["message"]
            assert "UNAVAILABLE" in complaint["message"]


def test_the_part_that_is_sampled(tmp_path: Path, small_models: Path) -> None:
    with (
        Collector() as collector,
        detection(
            tmp_path,
            small_models,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
            OTEL_TRACES_SAMPLER="parentbased_traceidratio",
            OTEL_TRACES_SAMPLER_ARG="0",
        ) as service,
    ):
        service.wait_until_ready()
        assert [detect(service) for _ in range(5)] == [""] * 5
        # Unless the caller samples: a trace is whole or not there.
        caller = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        assert detect(service, caller) == "0af7651916cd43dd8448eb211c80319c"


def test_the_name_of_the_status_is_that_of_the_conventions() -> None:
    # The interceptor names it without importing them.
    assert '"rpc.response.status_code"' in Path(interceptors.__file__).read_text()
    assert rpc_attributes.RPC_RESPONSE_STATUS_CODE == "rpc.response.status_code"
