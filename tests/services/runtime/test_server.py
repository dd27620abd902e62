"""The life of a service, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from perception.convert import image_to_message
from perception.v1 import detection_pb2, detection_pb2_grpc, image_pb2, model_pb2, model_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from services.runtime.server import LIVENESS, _follow, _options
from services.runtime.settings import ServiceSettings
from tests.support.contract_models import picture, write_model
from tests.support.service import PROJECT, ServiceProcess, eventually

Start = Callable[[str], ServiceProcess]
SERVICE = "perception.v1.DetectionService"
REQUEST = detection_pb2.DetectRequest(image=image_to_message(picture()))


def detect(service: ServiceProcess, **options: Any) -> detection_pb2.DetectResponse:
    stub = detection_pb2_grpc.DetectionServiceStub(service.channel)
    return stub.Detect(REQUEST, timeout=30, **options)


def in_flight(service: ServiceProcess) -> float:
    for family in text_string_to_metric_families(service.metrics()):
        if family.name == "perception_requests_in_flight":
            return sum(sample.value for sample in family.samples)
    return 0.0


def test_health_follows_the_model(tmp_path: Path) -> None:
    """A model that is missing, then unreadable, then there."""
    names = ["", SERVICE, "perception.v1.ModelService"]
    with ServiceProcess("detection", tmp_path, ENGINE="onnxruntime", MODEL_REPOSITORY=tmp_path) as service:
        # From the first moment, before anything is known of the model.
        assert {service.health(name) for name in names} == {"NOT_SERVING"}
        service.logged("not ready")
        assert service.health(LIVENESS) == "SERVING", "a restart would not bring the model"
        assert 'perception_model_ready{task="detection"} 0.0' in service.metrics()
        with pytest.raises(grpc.RpcError) as caught:
            detect(service)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "config.pbtxt cannot be read: No such file or directory" in caught.value.details()

        # Bytes that are no text.
        (tmp_path / "detection").mkdir()
        (tmp_path / "detection" / "config.pbtxt").write_bytes(b"\xff\xfe")
        with pytest.raises(grpc.RpcError) as caught:
            detect(service)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "is no model configuration" in caught.value.details()
        assert service.health() == "NOT_SERVING"

        write_model(tmp_path, "detection")
        eventually(lambda: {service.health(name) for name in names} == {"SERVING"})
        assert 'perception_model_ready{task="detection"} 1.0' in service.metrics()
        assert detect(service).detections[0].label == "green"
        with pytest.raises(grpc.RpcError) as caught:
            service.health("perception.v1.ClassificationService")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(service: Start) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(service("detection").channel)
    (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=20)
    assert {listed.name for listed in answer.list_services_response.service} == {
        SERVICE,
        "perception.v1.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    (described,) = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)]), timeout=20
    )
    assert described.file_descriptor_response.file_descriptor_proto


def test_the_metrics_are_those_that_are_declared(service: Start) -> None:
    from services.runtime import metrics

    detect(service("detection"))
    families = {family.name: family for family in text_string_to_metric_families(service("detection").metrics())}
    declared = re.findall(r'= (?:Counter|Gauge|Histogram)\(\s*"(\w+)"', Path(metrics.__file__).read_text())
    assert len(declared) >= 7
    exported = {name for name in families if name.startswith("perception_") and not name.endswith("_created")}
    assert exported == {name.removesuffix("_total") for name in declared}
    stages = {sample.labels["stage"] for sample in families["perception_stage_duration_seconds"].samples}
    assert stages == {"decode", "preprocess", "inference", "postprocess", "total"}
    answered = [sample for sample in families["perception_requests"].samples if sample.name.endswith("_total")]
    assert {"method": f"/{SERVICE}/Detect", "code": "OK"} in [sample.labels for sample in answered]
    assert "process_resident_memory_bytes" in families
    limits = {sample.labels["resource"]: sample.value for sample in families["perception_limit"].samples}
    assert limits == {"requests": 64}


def test_the_model_describes_itself(service: Start) -> None:
    stub = model_pb2_grpc.ModelServiceStub(service("detection").channel)
    model = stub.DescribeModel(model_pb2.DescribeModelRequest(), timeout=20).model
    assert (model.info.name, model.info.version, model.info.catalog_entry) == ("detection", "1", "contract_detection")
    assert list(model.labels) == ["red", "green", "blue"]
    assert (model.input_size.height, model.input_size.width, model.resize) == (48, 64, "letterbox")
    assert re.fullmatch("[0-9a-f]{64}", model.weights_sha256)


def test_logs_are_json_with_the_id_of_their_request(service: Start) -> None:
    empty = detection_pb2.DetectRequest()
    stub = detection_pb2_grpc.DetectionServiceStub(service("detection").channel)
    with pytest.raises(grpc.RpcError):
        stub.Detect(empty, timeout=20, metadata=(("x-request-id", "frame-"),))
    eventually(lambda: any(record["request_id"] == "frame-" for record in service("detection").records()))
    (refusal,) = [record for record in service("detection").records() if record["request_id"] == "frame-"]
    assert refusal["level"] == "WARNING"
    assert refusal["service"] == "detection"
    assert refusal["code"] == "INVALID_ARGUMENT"
    assert refusal["method"] == f"/{SERVICE}/Detect"
    assert refusal["message"] == "image: is empty: expected `encoded` or `raw`"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", refusal["time"])
    assert refusal["seconds"] >= 0


@pytest.fixture(scope="module")
def slow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detection model that takes half a second and more for a picture."""
    repository = tmp_path_factory.mktemp("slow")
    write_model(repository, "detection", burden=150)
    return repository


def begin(service: ServiceProcess) -> Future[detection_pb2.DetectResponse]:
    """A request that is at work when this returns."""
    stub = detection_pb2_grpc.DetectionServiceStub(service.channel)
    before = in_flight(service)
    working = stub.Detect.future(REQUEST, timeout=60)
    eventually(lambda: in_flight(service) > before or working.done())
    return working


def test_sigterm_drains(slow_models: Path, tmp_path: Path) -> None:
    with ServiceProcess("detection", tmp_path, ENGINE="onnxruntime", MODEL_REPOSITORY=slow_models) as service:
        service.wait_until_ready()
        watch = health_pb2_grpc.HealthStub(service.channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        working = begin(service)
        assert not working.done(), "the model is not slow enough"
        service.terminate()
        # Whoever watches health hears of it before the connection goes.
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with grpc.insecure_channel(service.address) as late, pytest.raises(grpc.RpcError) as caught:
            detection_pb2_grpc.DetectionServiceStub(late).Detect(REQUEST, timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert working.result(timeout=60).detections[0].label == "green"
        watch.cancel()
        assert service.process.wait(30) == 0
        messages = [record["message"] for record in service.records()]
        assert messages.index("draining") < messages.index("stopped")
        assert not [record for record in service.records() if record["level"] == "ERROR"]


def test_connections_end_of_age_and_no_request_fails(small_models: Path, tmp_path: Path) -> None:
    """Whoever calls looks all replicas up anew whenever one does."""
    settings = {"ENGINE": "onnxruntime", "MODEL_REPOSITORY": small_models, "MAX_CONNECTION_AGE_SECONDS": 0.5}
    states: list[grpc.ChannelConnectivity] = []
    with ServiceProcess("detection", tmp_path, **settings) as service:
        service.wait_until_ready()
        service.channel.subscribe(states.append)
        eventually(lambda: bool(detect(service).detections) and states.count(grpc.ChannelConnectivity.READY) > 2)


def test_connections_may_last_for_ever() -> None:
    options = dict(_options(ServiceSettings(max_connection_age_seconds=math.inf)))
    assert options["grpc.max_connection_age_ms"] == 2**31 - 1
    assert options["grpc.max_connection_age_grace_ms"] == 60_000


def test_a_drain_ends_when_its_time_is_over(slow_models: Path, tmp_path: Path) -> None:
    settings = {"ENGINE": "onnxruntime", "MODEL_REPOSITORY": slow_models, "DRAIN_SECONDS": 0.05}
    with ServiceProcess("detection", tmp_path, **settings) as service:
        service.wait_until_ready()
        working = begin(service)
        assert not working.done(), "the model is not slow enough"
        service.terminate()
        with pytest.raises(grpc.RpcError) as caught:
            working.result(timeout=60)
        assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert service.process.wait(30) == 0


def test_limits(slow_models: Path, tmp_path: Path) -> None:
    """Of requests at once, of the message, of the picture, of time."""
    settings = {
        "ENGINE": "onnxruntime",
        "MODEL_REPOSITORY": slow_models,
        "MAX_CONCURRENT_REQUESTS": 1,
        "MAX_IMAGE_BYTES": 100_000,
        "MAX_IMAGE_PIXELS": 10_000,
        "DEFAULT_TIMEOUT_SECONDS": 0.1,
    }
    with ServiceProcess("detection", tmp_path, **settings) as service:
        service.wait_until_ready()
        stub = detection_pb2_grpc.DetectionServiceStub(service.channel)

        def refused(image: image_pb2.Image, timeout: float | None = 30) -> tuple[str, str, str]:
            with pytest.raises(grpc.RpcError) as caught:
                stub.Detect(detection_pb2.DetectRequest(image=image), timeout=timeout)
            status = rpc_status.from_call(caught.value)
            info = error_details_pb2.ErrorInfo()
            if status:
                status.details[0].Unpack(info)
            return caught.value.code().name, info.reason, caught.value.details()

        working = begin(service)
        assert not working.done(), "the model is not slow enough"
        code, reason, words = refused(REQUEST.image)
        assert (code, reason, words) == ("RESOURCE_EXHAUSTED", "OVERLOADED", "1 requests are at work already")
        assert service.health() == "SERVING", "a busy service is not a dead one"
        assert working.result(timeout=60).detections[0].label == "green"

        code, reason, words = refused(image_pb2.Image(encoded=bytes(100_000 + 2**20)))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
        assert words == "request: a message of 1148584 bytes, the limit is 1148576"
        assert 'perception_limit_breaches_total{setting="max_image_bytes"} 1.0' in service.metrics()
        code, reason, words = refused(image_pb2.Image(encoded=bytes(2 * (100_000 + 2**20))))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "")
        assert re.search(r"larger than max \(\d+ vs. 2297152\)", words)
        code, reason, words = refused(image_pb2.Image(encoded=bytes(100_001)))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
        assert words == "image.encoded: a file of 100001 bytes, the limit is 100000"
        code, _, words = refused(image_to_message(picture(101, 100, (0, 0, 9, 9))))
        assert (code, words) == ("RESOURCE_EXHAUSTED", "image.raw: a picture of 101 x 100 pixels, the limit is 10000")
        # A caller without a deadline gets the service's.
        code, reason, words = refused(REQUEST.image, timeout=None)
        assert (code, reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        assert words == "deadline exceeded during inference"


def test_nothing_is_unpacked(service: Start) -> None:
    """A few hundred kilobytes of gzip that would fill memory by the hundred megabytes."""
    process = service("detection")
    before = process.peak_megabytes()
    detect = process.channel.unary_unary(f"/{SERVICE}/Detect")
    with pytest.raises(grpc.RpcError) as caught:
        detect(bytes(2**28), timeout=60, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "'gzip' is disabled" in caught.value.details()
    assert process.peak_megabytes() < before + 100


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.detection", *arguments],
        env={
            "HOST": "127.0.0.1",
            "PORT": "0",
            "METRICS_PORT": "0",
            **{key: str(value) for key, value in settings.items()},
        },
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("variable", ["PORT", "METRICS_PORT"])
def test_a_port_that_is_taken_ends_the_program(variable: str, small_models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(**{variable: port, "ENGINE": "onnxruntime", "MODEL_REPOSITORY": small_models})
    assert ended.returncode == 1
    assert f"{variable}: cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_service_does_not_share_the_first_ones_port(service: Start, small_models: Path) -> None:
    port = service("detection").address.rpartition(":")[2]
    ended = run(PORT=port, ENGINE="onnxruntime", MODEL_REPOSITORY=small_models)
    assert ended.returncode == 1
    assert "PORT: cannot listen" in ended.stderr


def test_a_setting_that_is_not_allowed_ends_the_program() -> None:
    ended = run(PORT="abc", SCORE_THRESHOLD="nan")
    assert ended.returncode == 2
    assert "services.detection: PORT: " in ended.stderr
    assert "services.detection: SCORE_THRESHOLD: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_log_line_of_a_service_is_one_json_object(service: Start) -> None:
    for line in service("detection").output().splitlines():
        assert {"time", "level", "logger", "message", "request_id", "service"} <= set(json.loads(line))


async def test_health_goes_on_when_readiness_raises() -> None:
    """A defect in an engine must not freeze what the service says of itself."""
    answers = iter([RuntimeError("a defect"), True])

    async def ready() -> bool:
        answer = next(answers, True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    health = HealthServicer()
    following = asyncio.create_task(_follow(ready, health, [SERVICE], 0.01))
    seen = [answer async for answer in _changes(health)]
    following.cancel()
    assert seen == [health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING]


async def _changes(health: HealthServicer) -> AsyncIterator[int]:
    """The first two states of health."""
    last = None
    async with asyncio.timeout(20):
        while last != health_pb2.HealthCheckResponse.SERVING:
            with suppress(grpc.aio.AbortError, AttributeError):
                status = (await health.Check(health_pb2.HealthCheckRequest(service=SERVICE), None)).status
                if status != last:
                    last = status
                    yield status
            await asyncio.sleep(0)
