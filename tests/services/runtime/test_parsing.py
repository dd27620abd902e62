"""Bytes that are no message, sent to each kind of call on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from perception import PerceptionError
from perception.v1 import camera_pb2, camera_pb2_grpc, detection_pb2, detection_pb2_grpc, perception_pb2
from perception.v1 import perception_pb2_grpc as perception_grpc
from prometheus_client import REGISTRY

from services.runtime.interceptors import RequestInterceptor

NO_MESSAGE = b"\x0a\xff"
DETECT = "/perception.v1.DetectionService/Detect"
CHECK = "/grpc.health.v1.Health/Check"
WATCH_HEALTH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
WATCH = "/perception.v1.CameraService/WatchCamera"
STREAM = "/perception.v1.PerceptionService/PerceiveStream"


class Servicer(
    detection_pb2_grpc.DetectionServiceServicer,
    camera_pb2_grpc.CameraServiceServicer,
    perception_grpc.PerceptionServiceServicer,
):
    """Answers what it can read."""

    async def Detect(self, request: Any, context: Any) -> detection_pb2.DetectResponse:  # noqa: N802
        detections = [detection_pb2.Detection(label=request.image.encoded.decode() * 2)] * bool(request.image.encoded)
        return detection_pb2.DetectResponse(detections=detections)

    async def WatchCamera(self, request: Any, context: Any) -> AsyncIterator[camera_pb2.WatchCameraResponse]:  # noqa: N802
        yield camera_pb2.WatchCameraResponse(picture=request.camera.encode() * 2)

    async def PerceiveStream(self, requests: Any, context: Any) -> AsyncIterator[perception_pb2.PerceiveStreamResponse]:  # noqa: N802
        async for request in requests:
            yield perception_pb2.PerceiveStreamResponse(sequence=request.sequence, trace_id=request.traceparent * 2)


MOST_BYTES = 10_000


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server(interceptors=[RequestInterceptor(8, max_message_bytes=MOST_BYTES)])
    detection_pb2_grpc.add_DetectionServiceServicer_to_server(Servicer(), server)
    camera_pb2_grpc.add_CameraServiceServicer_to_server(Servicer(), server)
    perception_grpc.add_PerceptionServiceServicer_to_server(Servicer(), server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    reflection.enable_server_reflection([reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as connected:
        yield connected
    await server.stop(None)


def _refused(method: str) -> float:
    labels = {"method": method, "code": "INVALID_ARGUMENT"}
    return REGISTRY.get_sample_value("perception_requests_total", labels) or 0.0


@pytest.mark.parametrize("method", [DETECT, WATCH, STREAM])
async def test_what_is_no_message_is_refused_logged_in_a_line_and_counted(
    channel: grpc.aio.Channel, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = _refused(method)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _answers(channel, method, [NO_MESSAGE])
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "request: is not a message of this call"
    assert _refused(method) == before + 1
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("method", [CHECK, WATCH_HEALTH, REFLECT])
async def test_health_and_reflection_refuse_it_likewise(
    channel: grpc.aio.Channel, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _answers(channel, method, [NO_MESSAGE])
    error = PerceptionError.from_rpc_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert str(error) == "request: is not a message of this call"
    assert [record for record in caplog.records if record.exc_info] == []


async def test_health_is_told(channel: grpc.aio.Channel) -> None:
    told = [await channel.unary_unary(CHECK)(b"", timeout=20), await channel.unary_stream(WATCH_HEALTH)(b"").read()]
    assert told == [health_pb2.HealthCheckResponse(status="SERVING").SerializeToString()] * 2


@pytest.mark.parametrize("method", [DETECT, WATCH])
async def test_messages_are_answered(channel: grpc.aio.Channel, method: str) -> None:
    assert await _answers(channel, method, [b""]) == [b""]


async def test_a_streams_messages_are_answered_up_to_what_is_none(channel: grpc.aio.Channel) -> None:
    good = perception_pb2.PerceiveStreamRequest(sequence=7).SerializeToString()
    call = channel.stream_stream(STREAM)(_sent([good, NO_MESSAGE]), timeout=20)
    assert await call.read() == perception_pb2.PerceiveStreamResponse(sequence=7).SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError, match="not a message of this call"):
        await call.read()


def _of(method: str, size: int) -> bytes:
    """A message that its method answers with one twice as large."""
    if method == DETECT:
        return detection_pb2.DetectRequest(image={"encoded": b"x" * size}).SerializeToString()
    if method == WATCH:
        return camera_pb2.WatchCameraRequest(camera="x" * size).SerializeToString()
    return perception_pb2.PerceiveStreamRequest(traceparent="x" * size).SerializeToString()


def _breaches() -> float:
    return REGISTRY.get_sample_value("perception_limit_breaches_total", {"setting": "max_image_bytes"}) or 0.0


@pytest.mark.parametrize("method", [DETECT, WATCH, STREAM])
@pytest.mark.parametrize(("size", "field"), [(MOST_BYTES + 1, "request"), (MOST_BYTES // 2 + 1, "response")])
async def test_what_is_too_large_names_the_limit_either_way(
    channel: grpc.aio.Channel, method: str, size: int, field: str
) -> None:
    before = _breaches()
    assert len((await _answers(channel, method, [_of(method, MOST_BYTES // 3)]))[0]) > MOST_BYTES // 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _answers(channel, method, [_of(method, size)])
    error = PerceptionError.from_rpc_error(caught.value)
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
    assert (error.field, error.setting) == (field, "max_image_bytes")
    assert f"the limit is {MOST_BYTES}" in str(error)
    assert _breaches() == before + 1


async def _sent(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def _answers(channel: grpc.aio.Channel, method: str, messages: list[bytes]) -> list[bytes]:
    if method in (DETECT, CHECK):
        return [await channel.unary_unary(method)(messages[0], timeout=20)]
    if method in (WATCH, WATCH_HEALTH):
        return [answer async for answer in channel.unary_stream(method)(messages[0], timeout=20)]
    return [answer async for answer in channel.stream_stream(method)(_sent(messages), timeout=20)]
