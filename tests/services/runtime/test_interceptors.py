"""Errors, request ids, metrics and limits around every request, on a real server."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_status import rpc_status
from perception.v1 import detection_pb2, detection_pb2_grpc, perception_pb2, perception_pb2_grpc
from prometheus_client import REGISTRY

from services.runtime import errors, logs
from services.runtime.interceptors import RequestInterceptor, error_status
from tests.support.waiting import until

METHOD = "/perception.v1.DetectionService/Detect"
STREAM = "/perception.v1.PerceptionService/PerceiveStream"


class Servicer(detection_pb2_grpc.DetectionServiceServicer, perception_pb2_grpc.PerceptionServiceServicer):
    """Raises or waits as it is told; answers the request id it sees."""

    def __init__(self) -> None:
        self.raises: BaseException | None = None
        self.waits: asyncio.Event | None = None
        self.started = asyncio.Event()
        self.ended = asyncio.Event()

    async def Detect(self, request: Any, context: Any) -> detection_pb2.DetectResponse:  # noqa: N802
        self.started.set()
        try:
            if self.waits:
                await self.waits.wait()
            if self.raises:
                raise self.raises
            return detection_pb2.DetectResponse(detections=[detection_pb2.Detection(label=logs.request_id.get())])
        finally:
            self.ended.set()

    async def PerceiveStream(self, requests: Any, context: Any) -> AsyncIterator[perception_pb2.PerceiveStreamResponse]:  # noqa: N802
        self.started.set()
        try:
            async for request in requests:
                if self.raises:
                    raise self.raises
                answer = perception_pb2.PerceiveStreamResponse(sequence=request.sequence)
                answer.scene.request_id = logs.request_id.get()
                answer.scene.panoptic.png = request.frame.image.encoded
                yield answer
        finally:
            self.ended.set()


class Served:
    def __init__(self, servicer: Servicer, channel: grpc.aio.Channel) -> None:
        self.servicer = servicer
        self.detection = detection_pb2_grpc.DetectionServiceStub(channel)
        self.perception = perception_pb2_grpc.PerceptionServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    async def detect(self, *metadata: tuple[str, str]) -> str:
        response = await self.detection.Detect(detection_pb2.DetectRequest(), metadata=metadata, timeout=20)
        return str(response.detections[0].label)


@asynccontextmanager
async def serving(limit: int = 64, max_metadata_bytes: int = 8192) -> AsyncIterator[Served]:
    server = grpc.aio.server(interceptors=[RequestInterceptor(limit, max_metadata_bytes=max_metadata_bytes)])
    servicer = Servicer()
    detection_pb2_grpc.add_DetectionServiceServicer_to_server(servicer, server)
    perception_pb2_grpc.add_PerceptionServiceServicer_to_server(servicer, server)
    health = HealthServicer()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(servicer, channel)
    await server.stop(None)


def counted(code: str, method: str = METHOD) -> float:
    return REGISTRY.get_sample_value("perception_requests_total", {"method": method, "code": code}) or 0.0


def measured(method: str = METHOD) -> float:
    return REGISTRY.get_sample_value("perception_request_duration_seconds_count", {"method": method}) or 0.0


def in_flight(method: str = METHOD) -> float:
    return REGISTRY.get_sample_value("perception_requests_in_flight", {"method": method}) or 0.0


def at_work(requests: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return in_flight() == requests

    return holds


def documented_errors() -> dict[str, tuple[str, bool]]:
    """The table at the top of the errors' module: name -> gRPC code and whether trying again helps."""
    rows = re.findall(r"^\| (\w+) +\| ([A-Z_]+) +\| (yes|no) +\|$", errors.__doc__ or "", re.MULTILINE)
    return {name: (code, retryable == "yes") for name, code, retryable in rows}


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


EXAMPLES: dict[str, errors.ServiceError] = {
    "InvalidInput": errors.InvalidInput("image.raw.stride", "is 3"),
    "NotFound": errors.NotFound("camera", "no camera 'gate'"),
    "LimitExceeded": errors.LimitExceeded("image.encoded", "a file of 10 bytes", 9, "max_image_bytes"),
    "Overloaded": errors.Overloaded("no room", 0.25, "max_streams"),
    "RequestIncomplete": errors.RequestIncomplete(10.0),
    "PictureNotShared": errors.PictureNotShared("no such memory"),
    "StreamIdle": errors.StreamIdle(30.0),
    "NoToken": errors.NoToken(),
    "WrongToken": errors.WrongToken("is not known"),
    "ScopeMissing": errors.ScopeMissing("token/gate", "watch"),
    "QuotaExceeded": errors.QuotaExceeded("token/gate", "streams", 2, 5.0),
    "KeysUnavailable": errors.KeysUnavailable(),
    "Stopping": errors.Stopping(),
    "DeadlineExceeded": errors.DeadlineExceeded("inference"),
    "EngineUnavailable": errors.EngineUnavailable("yolo", "does not answer"),
    "ModelUnavailable": errors.ModelUnavailable("yolo", "not loaded"),
    "ContractViolation": errors.ContractViolation("yolo", "no boxes"),
    "InferenceFailed": errors.InferenceFailed("yolo", "failed"),
    "NoTaskAnswered": errors.NoTaskAnswered({"TASK_DETECTION": "down"}),
}
METADATA = {
    "NotFound": {"field": "camera"},
    "InvalidInput": {"field": "image.raw.stride"},
    "LimitExceeded": {"field": "image.encoded", "limit": "9", "setting": "max_image_bytes"},
    "Overloaded": {"setting": "max_streams"},
    "RequestIncomplete": {"setting": "receive_seconds"},
    "PictureNotShared": {"setting": "shared_pictures_directory"},
    "StreamIdle": {"setting": "stream_idle_seconds"},
    "ScopeMissing": {"client": "token/gate", "scope": "watch"},
    "QuotaExceeded": {"client": "token/gate", "quota": "streams", "limit": "2"},
    "DeadlineExceeded": {"stage": "inference"},
    "EngineUnavailable": {"model": "yolo"},
    "ModelUnavailable": {"model": "yolo"},
    "ContractViolation": {"model": "yolo"},
    "InferenceFailed": {"model": "yolo"},
    "NoTaskAnswered": {"TASK_DETECTION": "down"},
}


def test_the_table_of_errors_is_complete() -> None:
    ours = {kind.__name__ for kind in subclasses(errors.ServiceError) if kind.__module__ == errors.__name__}
    bases = {"ServiceError", "EngineError"}
    tree = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert set(documented_errors()) == ours - bases == set(EXAMPLES)
    assert tree == ours - {"ServiceError"}


def test_reasons_are_the_names_of_the_errors() -> None:
    for kind in subclasses(errors.ServiceError) - {errors.ServiceError}:
        assert kind.reason == re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()


def unpacked(error: grpc.aio.AioRpcError, kind: type[Message]) -> Any:
    status = rpc_status.from_call(error)
    assert status is not None
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            return message
    return None


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_error_becomes_the_status_that_the_table_promises(name: str) -> None:
    error = EXAMPLES[name]
    code, retryable = documented_errors()[name]
    before = counted(code)
    async with serving() as served:
        served.servicer.raises = error
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.detect()
    assert caught.value.code().name == code
    assert caught.value.details() == str(error)
    info = unpacked(caught.value, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == (error.reason, "perception", METADATA.get(name, {}))
    retry = unpacked(caught.value, error_details_pb2.RetryInfo)
    assert (retry is not None) == retryable
    if retryable:
        assert retry.retry_delay.ToTimedelta().total_seconds() == pytest.approx(error.retry_after_seconds)
    violations = unpacked(caught.value, error_details_pb2.BadRequest)
    assert (violations is not None) == (name == "InvalidInput")
    if violations:
        (violation,) = violations.field_violations
        assert (violation.field, violation.description) == ("image.raw.stride", "is 3")
    assert counted(code) == before + 1
    assert in_flight() == 0


async def test_a_defect_is_an_internal_error_that_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    before = counted("INTERNAL")
    async with serving() as served:
        served.servicer.raises = ValueError("a secret from the depths")
        with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.detect(("x-request-id", "frame-1"))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"
    everything = repr(caught.value) + repr(caught.value.trailing_metadata()) + repr(rpc_status.from_call(caught.value))
    assert "secret" not in everything
    assert "Traceback" not in everything
    # The operator sees all of it.
    (record,) = [record for record in caplog.records if record.name == "services.runtime.interceptors"]
    assert record.exc_info
    assert "a secret from the depths" in str(record.exc_info[1])
    assert counted("INTERNAL") == before + 1


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidInput("image", "x" * 100_000),
        errors.ContractViolation("yolo", "ü" * 100_000),
        errors.NoTaskAnswered({f"TASK_{number}": "y" * 50_000 for number in range(4)}),
    ],
)
async def test_a_long_message_still_reaches_the_caller(error: errors.ServiceError) -> None:
    async with serving() as served:
        served.servicer.raises = error
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.detect()
    assert caught.value.code() is error.code
    assert unpacked(caught.value, error_details_pb2.ErrorInfo).reason == error.reason


def test_a_status_says_no_more_than_the_error() -> None:
    assert error_status(KeyError("secret")).SerializeToString() == error_status(OSError("other")).SerializeToString()


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ((("x-request-id", "frame-1"),), "frame-1"),
        ((("x-request-id", "a b/c=d"),), "a b/c=d"),
        ((("x-request-id", "x" * 500),), "x" * 128),  # cut, so that no log line grows without bound
        ((("x-request-id", "first"), ("x-request-id", "second")), "first"),
        # what is made up instead: 32 hexadecimal digits
        ((), None),
        ((("x-request-id", ""),), None),
        ((("x-other", "frame-1"),), None),
    ],
)
async def test_the_request_id(sent: tuple[tuple[str, str], ...], seen: str | None) -> None:
    async with serving() as served:
        label = await served.detect(*sent)
    if seen is None:
        assert re.fullmatch("[0-9a-f]{32}", label)
    else:
        assert label == seen


async def test_requests_at_once_keep_their_own_ids() -> None:
    async with serving() as served:
        names = [f"frame-{number}" for number in range(20)]
        assert await asyncio.gather(*(served.detect(("x-request-id", name)) for name in names)) == names


async def test_answers_are_counted_and_measured() -> None:
    answered, times = counted("OK"), measured()
    async with serving() as served:
        for _ in range(3):
            await served.detect()
    assert counted("OK") == answered + 3
    assert measured() == times + 3


async def test_a_request_whose_caller_goes_away_is_counted_as_cancelled() -> None:
    before = counted("CANCELLED")
    async with serving() as served:
        served.servicer.waits = asyncio.Event()
        call = served.detection.Detect(detection_pb2.DetectRequest())
        await asyncio.wait_for(served.servicer.started.wait(), 20)
        assert in_flight() == 1
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await until(at_work(0))
    assert counted("CANCELLED") == before + 1
    assert in_flight() == 0


async def test_a_request_past_its_deadline_is_counted_as_cancelled() -> None:
    before = counted("CANCELLED")
    async with serving() as served:
        served.servicer.waits = asyncio.Event()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.detection.Detect(detection_pb2.DetectRequest(), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(at_work(0))
    assert counted("CANCELLED") == before + 1
    assert in_flight() == 0


async def test_more_requests_than_allowed_are_refused_and_health_is_not() -> None:
    before = counted("RESOURCE_EXHAUSTED")
    async with serving(limit=2) as served:
        served.servicer.waits = asyncio.Event()
        working = [asyncio.create_task(served.detect(("x-request-id", name))) for name in ("one", "two")]
        await until(at_work(2))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.detect()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == "2 requests are at work already"
        assert unpacked(caught.value, error_details_pb2.ErrorInfo).reason == "OVERLOADED"
        assert unpacked(caught.value, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() == 0.1
        health = await served.health.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        served.servicer.waits.set()
        assert await asyncio.gather(*working) == ["one", "two"]
        # There is room again.
        assert await served.detect(("x-request-id", "three")) == "three"
    assert counted("RESOURCE_EXHAUSTED") == before + 1


async def test_a_failed_request_gives_its_room_back() -> None:
    async with serving(limit=1) as served:
        for served.servicer.raises in (ValueError("x"), errors.DeadlineExceeded("decode"), None):
            with suppress(grpc.aio.AioRpcError):
                await served.detect()
        assert await served.detect(("x-request-id", "last")) == "last"


def frames(count: int, data: bytes = b"") -> AsyncIterator[perception_pb2.PerceiveStreamRequest]:
    async def send() -> AsyncIterator[perception_pb2.PerceiveStreamRequest]:
        for number in range(count):
            request = perception_pb2.PerceiveStreamRequest(sequence=number)
            request.frame.image.encoded = data
            yield request

    return send()


async def test_a_stream_is_one_request() -> None:
    before = counted("OK", STREAM)
    async with serving() as served:
        call = served.perception.PerceiveStream(frames(5), metadata=(("x-request-id", "camera-1"),))
        answers = [answer async for answer in call]
    assert [answer.sequence for answer in answers] == list(range(5))
    assert {answer.scene.request_id for answer in answers} == {"camera-1"}
    assert counted("OK", STREAM) == before + 1


async def test_an_error_ends_a_stream_with_its_status() -> None:
    async with serving() as served:
        served.servicer.raises = errors.InvalidInput("frame", "is wrong")
        call = served.perception.PerceiveStream()
        await call.write(perception_pb2.PerceiveStreamRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert unpacked(caught.value, error_details_pb2.ErrorInfo).metadata["field"] == "frame"


async def test_a_stream_whose_caller_stops_reading_and_leaves_is_cancelled_not_a_defect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The handler then waits inside `yield` for room on the wire."""
    before, defects = counted("CANCELLED", STREAM), counted("INTERNAL", STREAM)
    async with serving() as served:
        call = served.perception.PerceiveStream(frames(1000, bytes(2**20)))
        await call.read()
        await asyncio.sleep(0.3)
        call.cancel()
        await asyncio.wait_for(served.servicer.ended.wait(), 20)
        await asyncio.sleep(0.1)
    assert counted("CANCELLED", STREAM) == before + 1
    assert counted("INTERNAL", STREAM) == defects
    assert in_flight(STREAM) == 0
    ours = [record for record in caplog.records if record.name.startswith("services.")]
    assert not [record for record in ours if record.levelno >= logging.ERROR]


async def test_metadata_that_is_too_large_is_a_named_breach() -> None:
    def breaches() -> float:
        labels = {"setting": "max_metadata_bytes"}
        return REGISTRY.get_sample_value("perception_limit_breaches_total", labels) or 0.0

    before = breaches()
    async with serving(max_metadata_bytes=1024) as served:
        assert await served.detect(("x-padding", "x" * 500))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.detect(("x-padding", "x" * 1024))
        call = served.perception.PerceiveStream(metadata=(("x-padding", "x" * 1024),))
        with pytest.raises(grpc.aio.AioRpcError) as of_stream:
            await call.read()
    for error in (caught.value, of_stream.value):
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert unpacked(error, error_details_pb2.ErrorInfo).metadata["setting"] == "max_metadata_bytes"
    assert breaches() == before + 2


async def test_health_is_not_counted() -> None:
    async with serving() as served:
        await served.health.Check(health_pb2.HealthCheckRequest())
    for metric in REGISTRY.collect():
        assert not any("Health" in sample.labels.get("method", "") for sample in metric.samples)
