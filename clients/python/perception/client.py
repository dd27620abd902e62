"""Calling the gateway."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Literal, Self

import grpc
import grpc.aio

from perception.convert import ImageLike, image_to_message
from perception.errors import PerceptionError
from perception.scene import Scene
from perception.v1 import geometry_pb2, perception_pb2, perception_pb2_grpc, task_pb2

DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

Resolution = Literal["frame", "model"]

_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.lb_policy_name", "round_robin"),
    # A gateway that comes back is found within seconds.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
]


class PerceptionClient:
    """A connection to a gateway; safe to share between threads, and to be closed, or used as a context manager.

    address: "host:port". credentials: TLS credentials, none for plain text. token: sent as a bearer token with
    every call. All methods raise `PerceptionError` (see `perception.errors`), and `ValueError` for an argument that no
    request can be made of or an answer that is malformed.
    """

    def __init__(
        self, address: str, *, credentials: grpc.ChannelCredentials | None = None, token: str | None = None
    ) -> None:
        self._channel = (
            grpc.secure_channel(address, credentials, _OPTIONS)
            if credentials
            else grpc.insecure_channel(address, _OPTIONS)
        )
        self._stub = perception_pb2_grpc.PerceptionServiceStub(self._channel)
        self._token = token

    def perceive(
        self,
        image: ImageLike,
        *,
        tasks: Iterable[str] = (),
        score_threshold: float | None = None,
        resolution: Resolution = "frame",
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        request_id: str | None = None,
    ) -> Scene:
        """Perceives one picture.

        image: path, encoded bytes, or RGB uint8 [H, W, 3]. tasks: names of the tasks to run, all where none is named.
        score_threshold: 0..1. resolution: the grid of the maps, the frame's pixels or the semantic model's. timeout:
        seconds. request_id: found again in the answer and in every log; made up where none is given.
        """
        request_id = request_id or uuid.uuid4().hex
        request = perceive_request(image, tasks, score_threshold, resolution)
        try:
            response = self._stub.Perceive(request, timeout=timeout, metadata=_metadata(request_id, self._token))
        except grpc.RpcError as error:
            raise PerceptionError.from_rpc_error(error, request_id) from None
        return Scene.from_message(response, image)

    def describe(self, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> perception_pb2.DescribeSystemResponse:
        """The system's tasks with their models, and its categories."""
        request_id = uuid.uuid4().hex
        request = perception_pb2.DescribeSystemRequest()
        try:
            return self._stub.DescribeSystem(request, timeout=timeout, metadata=_metadata(request_id, self._token))
        except grpc.RpcError as error:
            raise PerceptionError.from_rpc_error(error, request_id) from None

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncPerceptionClient:
    """As `PerceptionClient`, for asyncio; an asynchronous context manager."""

    def __init__(
        self, address: str, *, credentials: grpc.ChannelCredentials | None = None, token: str | None = None
    ) -> None:
        self._channel = (
            grpc.aio.secure_channel(address, credentials, _OPTIONS)
            if credentials
            else grpc.aio.insecure_channel(address, _OPTIONS)
        )
        self._stub: perception_pb2_grpc.PerceptionServiceAsyncStub = perception_pb2_grpc.PerceptionServiceStub(
            self._channel
        )
        self._token = token

    async def perceive(
        self,
        image: ImageLike,
        *,
        tasks: Iterable[str] = (),
        score_threshold: float | None = None,
        resolution: Resolution = "frame",
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        request_id: str | None = None,
    ) -> Scene:
        """As `PerceptionClient.perceive`."""
        request_id = request_id or uuid.uuid4().hex
        request = perceive_request(image, tasks, score_threshold, resolution)
        try:
            response = await self._stub.Perceive(request, timeout=timeout, metadata=_metadata(request_id, self._token))
        except grpc.RpcError as error:
            raise PerceptionError.from_rpc_error(error, request_id) from None
        return Scene.from_message(response, image)

    async def describe(self, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> perception_pb2.DescribeSystemResponse:
        """As `PerceptionClient.describe`."""
        request_id = uuid.uuid4().hex
        request = perception_pb2.DescribeSystemRequest()
        try:
            return await self._stub.DescribeSystem(
                request, timeout=timeout, metadata=_metadata(request_id, self._token)
            )
        except grpc.RpcError as error:
            raise PerceptionError.from_rpc_error(error, request_id) from None

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def perceive_request(
    image: ImageLike, tasks: Iterable[str], score_threshold: float | None, resolution: Resolution
) -> perception_pb2.PerceiveRequest:
    """The request message. Raises `ValueError` for a task or resolution that does not exist."""
    return perception_pb2.PerceiveRequest(
        image=image_to_message(image),
        tasks=[_known(task_pb2.Task, "TASK", name) for name in tasks],
        score_threshold=score_threshold,
        resolution=_known(geometry_pb2.Resolution, "RESOLUTION", resolution),
        mask_format=geometry_pb2.MASK_FORMAT_BOX,
    )


def _known(enumeration: Any, prefix: str, name: str) -> str:
    value = f"{prefix}_{name.upper()}"
    if value not in enumeration.keys()[1:]:
        expected = ", ".join(key.removeprefix(f"{prefix}_").lower() for key in enumeration.keys()[1:])
        raise ValueError(f"{prefix.lower()} {name!r}: expected one of {expected}")
    return value


def _metadata(request_id: str, token: str | None) -> tuple[tuple[str, str], ...]:
    identity = (("x-request-id", request_id),)
    return (*identity, ("authorization", f"Bearer {token}")) if token else identity
