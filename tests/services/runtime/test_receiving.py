"""Requests that arrive slowly or never, at a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from perception.v1 import detection_pb2, detection_pb2_grpc

from services.runtime.interceptors import MOST_BYSTANDERS, RequestInterceptor
from tests.services.runtime.test_interceptors import METHOD, Servicer, unpacked

CODE = grpc.StatusCode
MOST = 4


class Served:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.detection = detection_pb2_grpc.DetectionServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self._begin = channel.stream_unary(
            METHOD, detection_pb2.DetectRequest.SerializeToString, detection_pb2.DetectResponse.FromString
        )

    async def begin(self) -> Any:
        """A call whose request does not come."""
        call = self._begin()
        await call.wait_for_connection()
        return call

    async def answers(self) -> bool:
        response = await self.detection.Detect(detection_pb2.DetectRequest(), timeout=20)
        return len(response.detections) == 1


@asynccontextmanager
async def serving(receive_seconds: float) -> AsyncIterator[Served]:
    server = grpc.aio.server(interceptors=[RequestInterceptor(MOST, receive_seconds=receive_seconds)])
    detection_pb2_grpc.add_DetectionServiceServicer_to_server(Servicer(), server)
    health = HealthServicer()
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(channel)
    await server.stop(None)


async def test_a_request_that_does_not_arrive_is_ended_by_name() -> None:
    async with serving(receive_seconds=0.3) as served:
        call = await served.begin()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await asyncio.wait_for(call, 20)
    assert ended.value.code() is CODE.DEADLINE_EXCEEDED
    info = unpacked(ended.value, error_details_pb2.ErrorInfo)
    assert (info.reason, info.metadata["setting"]) == ("REQUEST_INCOMPLETE", "receive_seconds")


async def test_of_too_many_that_do_not_arrive_the_oldest_ends_and_others_are_answered() -> None:
    async with serving(receive_seconds=60.0) as served:
        calls = []
        for _ in range(3 * MOST):
            calls.append(await served.begin())
            assert await served.answers()
        for call in calls[: 2 * MOST]:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(call, 20)
            assert ended.value.code() is CODE.RESOURCE_EXHAUSTED
            assert unpacked(ended.value, error_details_pb2.RetryInfo)
        assert not any(call.done() for call in calls[-MOST + 1 :])


async def test_a_call_that_sends_nothing_and_ends_is_the_callers_fault() -> None:
    async with serving(receive_seconds=60.0) as served:
        call = await served.begin()
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError, match="request: is missing"):
            await asyncio.wait_for(call, 20)


async def test_those_who_watch_health_are_bounded_and_requests_answered_beside_them() -> None:
    async with serving(receive_seconds=60.0) as served:
        watching = [served.health.Watch(health_pb2.HealthCheckRequest()) for _ in range(MOST_BYSTANDERS)]
        for call in watching:
            assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError, match="calls for health and reflection are open already"):
            await served.health.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert await served.answers()
        watching.pop().cancel()
        async with asyncio.timeout(20):
            while True:
                try:
                    await served.health.Check(health_pb2.HealthCheckRequest(), timeout=20)
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)
        for call in watching:
            call.cancel()
