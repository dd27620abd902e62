"""Camera agents, as upstreams of the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from perception.connections import open_async_channel
from perception.v1 import camera_pb2, camera_pb2_grpc

from services.viewer.messages import (
    UNREACHABLE,
    Json,
    camera,
    cameras_message,
    frame_notice,
    scene_message,
    status_message,
)
from services.viewer.relay import Message
from services.viewer.settings import ViewerSettings

_LIST_SECONDS = 0.5
"""A change is on the page within this, the time for an answer, and the time to find an agent that came back."""
_ANSWER_SECONDS = 0.75
_RETRY_SECONDS = 0.5


class CameraAgent:
    """One agent, over a channel that finds it again by itself."""

    def __init__(self, address: str, settings: ViewerSettings) -> None:
        self.address = address
        self._channel = open_async_channel(
            address,
            [
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                # An agent's successor has another address.
                ("grpc.dns_min_time_between_resolutions_ms", 1_000),
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 500),
            ],
            settings.tls_as_caller,
        )
        self._stub: camera_pb2_grpc.CameraServiceAsyncStub = camera_pb2_grpc.CameraServiceStub(self._channel)
        self._last: list[Json] = []

    async def cameras(self) -> Json:
        """The agent and its cameras; while it does not answer, those that it had, as unreachable."""
        try:
            answer = await self._stub.ListCameras(camera_pb2.ListCamerasRequest(), timeout=_ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            reason = f"{self.address}: {_describe(error)}"
            return {"address": self.address, "reason": reason, "cameras": [_lost(last, reason) for last in self._last]}
        self._last = [camera(status) for status in answer.cameras]
        return {"address": self.address, "reason": "", "cameras": self._last}

    async def watch(self, name: str) -> AsyncIterator[Message]:
        """What a camera sees, for ever: a call that breaks off is told of, and one that ends is made again as well.

        An agent ends the call with the camera; the list of cameras tells when it is back.
        """
        request = camera_pb2.WatchCameraRequest(camera=name, include_picture=True)
        number = 0
        while True:
            call = self._stub.WatchCamera(request)
            try:
                async for response in call:
                    if response.answer.WhichOneof("result") == "scene":
                        number += 1
                        yield Message("scene", scene_message(response, number))
                    else:
                        status = status_message(camera(response.status), frame_notice(response.answer))
                        yield Message("status", status)
            except grpc.aio.AioRpcError as error:
                lost = {"name": name, "state": UNREACHABLE, "reason": f"{self.address}: {_describe(error)}"}
                yield Message("status", status_message(lost))
            finally:
                call.cancel()
            await asyncio.sleep(_RETRY_SECONDS)

    async def close(self) -> None:
        """Closes the channel; calls are cancelled."""
        await self._channel.close()


class CameraAgents:
    """All agents of the settings, by address."""

    def __init__(self, settings: ViewerSettings) -> None:
        self._agents = {address: CameraAgent(address, settings) for address in settings.agent_addresses}
        self._max_image_bytes = settings.max_image_bytes if settings.gateway_url else None

    def __contains__(self, address: str) -> bool:
        return address in self._agents

    def __getitem__(self, address: str) -> CameraAgent:
        return self._agents[address]

    async def list(self) -> AsyncIterator[Message]:
        """The cameras of all agents, again and again."""
        while True:
            agents = await asyncio.gather(*(agent.cameras() for agent in self._agents.values()))
            yield Message("cameras", cameras_message(agents, self._max_image_bytes))
            await asyncio.sleep(_LIST_SECONDS)

    async def close(self) -> None:
        """Closes every agent's channel."""
        await asyncio.gather(*(agent.close() for agent in self._agents.values()))


def _lost(last: Json, reason: str) -> Json:
    """A camera of an agent that does not answer: its counts are the last that are known, its rates are not known."""
    unknown = {"retry_time": None, "gateway_connected": None, "source_frames_per_second": 0.0, "scenes_per_second": 0.0}
    return {**last, **unknown, "state": UNREACHABLE, "reason": reason}


def _describe(error: grpc.aio.AioRpcError) -> str:
    """A failed call for a person."""
    match error.code():
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {_ANSWER_SECONDS} s"
        case grpc.StatusCode.UNAVAILABLE:
            return "the agent does not answer"
        case _:
            return error.details() or error.code().name
