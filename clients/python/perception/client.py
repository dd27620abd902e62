"""Calling the gateway."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from perception.channels import channel_options
from perception.connections import Token, open_async_channel, open_channel
from perception.convert import ImageLike
from perception.errors import PerceptionError
from perception.feeds import AsyncFeed, Feed
from perception.requests import Resolution, perceive_request
from perception.scene import Scene
from perception.streams import Conversation, Frame, Handovers, Priority, StreamAnswer
from perception.tls import TLS
from perception.tracing import trace_headers
from perception.v1 import perception_pb2, perception_pb2_grpc

DEFAULT_TIMEOUT_SECONDS = 30.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

RETRIED = ("perception.v1.PerceptionService/Perceive", "perception.v1.PerceptionService/DescribeSystem")

_OPTIONS: list[tuple[str, str | int]] = [
    *channel_options(MAX_MESSAGE_BYTES, RETRIED),
    # A gateway that comes back is found within seconds.
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
]


class PerceptionClient:
    """A connection to a gateway; safe to share between threads, and to be closed, or used as a context manager.

    address: "host:port". tls: whom to trust and how to show who calls; plain text where none is given. token: sent with
    every call as a bearer token; a `Path` is that of a file that holds it. All these files may be replaced while the
    client is in use. Raises `OSError` and `ValueError` for files that cannot be used.

    All methods raise `PerceptionError` (see `perception.errors`), and `ValueError` for an argument that no request can
    be made of or an answer that is malformed.
    """

    def __init__(self, address: str, *, tls: TLS | None = None, token: Token | None = None) -> None:
        self._channel = open_channel(address, _OPTIONS, tls, token)
        self._stub = perception_pb2_grpc.PerceptionServiceStub(self._channel)

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

        Where the caller uses OpenTelemetry, the frame is part of the trace of its current span.
        """
        request_id = request_id or uuid.uuid4().hex
        request = perceive_request(image, tasks, score_threshold, resolution)
        try:
            response = self._stub.Perceive(request, timeout=timeout, metadata=_metadata(request_id))
        except grpc.RpcError as error:
            raise PerceptionError.from_rpc_error(error, request_id) from None
        return Scene.from_message(response, image)

    def describe(self, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> perception_pb2.DescribeSystemResponse:
        """The system's tasks with their models, and its categories."""
        request_id = uuid.uuid4().hex
        request = perception_pb2.DescribeSystemRequest()
        try:
            return self._stub.DescribeSystem(request, timeout=timeout, metadata=_metadata(request_id))
        except grpc.RpcError as error:
            raise PerceptionError.from_rpc_error(error, request_id) from None

    def stream(
        self,
        frames: Iterable[Frame | ImageLike],
        *,
        camera: str,
        deadline: float | None = None,
        max_in_flight: int | None = None,
        priority: Priority = "normal",
        track: bool = False,
        resume_after: int | None = None,
        tasks: Iterable[str] = (),
        score_threshold: float | None = None,
        resolution: Resolution = "frame",
        request_id: str | None = None,
    ) -> Iterator[StreamAnswer]:
        """Perceives the frames of one camera: one answer for each, in order.

        frames: taken one by one, in a thread of its own, as fast as the gateway reads them; where it is slower than the
        camera, the newest frame wins and older ones are answered as dropped. An error that `frames` raises is raised
        here, after the answers to what was sent before. camera: its name, 1 to 64 letters, digits, '.', '_' or '-'.
        deadline: seconds from a frame's capture to its answer. max_in_flight: frames at work at once. Where these are
        not given, the gateway's defaults hold. priority: before other streams ("high") or after them ("low"). track:
        whether things keep an identity (`Segment.track`). resume_after: after a connection broke, the last frame that
        was answered; numbers of frames go on from there. The rest is as for `perceive`, for every frame.

        The stream ends when `frames` does, or when the iterator is closed. A gateway that stops, or has had the stream
        for long, hands it over: it goes on with another one, each frame is answered once, and tracks begin anew
        (`StreamAnswer.epoch`). When the gateway goes away without a word, `Unavailable` is raised; call again with
        `resume_after`.
        """
        conversation = Conversation(
            camera, deadline, max_in_flight, priority, track, resume_after, tasks, score_threshold, resolution
        )
        return self._converse(frames, conversation, request_id or uuid.uuid4().hex)

    def _converse(
        self, frames: Iterable[Frame | ImageLike], conversation: Conversation, request_id: str
    ) -> Iterator[StreamAnswer]:
        feed = Feed(frames, conversation)
        handovers = Handovers()
        while True:
            call = self._stub.PerceiveStream(feed.requests(), metadata=_metadata(request_id))
            try:
                for message in call:
                    yield conversation.answer(message)
                    handovers.answered()
                break
            except grpc.RpcError as error:
                pause = handovers.pause_seconds(PerceptionError.from_rpc_error(error, request_id))
            finally:
                call.cancel()
            time.sleep(pause)
        if feed.failure:
            raise feed.failure

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

    def __init__(self, address: str, *, tls: TLS | None = None, token: Token | None = None) -> None:
        self._channel = open_async_channel(address, _OPTIONS, tls, token)
        self._stub: perception_pb2_grpc.PerceptionServiceAsyncStub = perception_pb2_grpc.PerceptionServiceStub(
            self._channel
        )

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
            response = await self._stub.Perceive(request, timeout=timeout, metadata=_metadata(request_id))
        except grpc.RpcError as error:
            raise PerceptionError.from_rpc_error(error, request_id) from None
        return Scene.from_message(response, image)

    async def describe(self, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> perception_pb2.DescribeSystemResponse:
        """As `PerceptionClient.describe`."""
        request_id = uuid.uuid4().hex
        request = perception_pb2.DescribeSystemRequest()
        try:
            return await self._stub.DescribeSystem(request, timeout=timeout, metadata=_metadata(request_id))
        except grpc.RpcError as error:
            raise PerceptionError.from_rpc_error(error, request_id) from None

    def stream(
        self,
        frames: AsyncIterable[Frame | ImageLike],
        *,
        camera: str,
        deadline: float | None = None,
        max_in_flight: int | None = None,
        priority: Priority = "normal",
        track: bool = False,
        resume_after: int | None = None,
        tasks: Iterable[str] = (),
        score_threshold: float | None = None,
        resolution: Resolution = "frame",
        request_id: str | None = None,
    ) -> AsyncIterator[StreamAnswer]:
        """As `PerceptionClient.stream`, with an asynchronous iterable."""
        conversation = Conversation(
            camera, deadline, max_in_flight, priority, track, resume_after, tasks, score_threshold, resolution
        )
        return self._converse(frames, conversation, request_id or uuid.uuid4().hex)

    async def _converse(
        self, frames: AsyncIterable[Frame | ImageLike], conversation: Conversation, request_id: str
    ) -> AsyncIterator[StreamAnswer]:
        feed = AsyncFeed(frames, conversation)
        handovers = Handovers()
        try:
            while True:
                call = self._stub.PerceiveStream(metadata=_metadata(request_id))
                sending = asyncio.create_task(_send(feed, call))
                try:
                    async for message in call:
                        yield conversation.answer(message)
                        handovers.answered()
                    await sending
                    return
                except grpc.RpcError as error:
                    pause = handovers.pause_seconds(PerceptionError.from_rpc_error(error, request_id))
                finally:
                    sending.cancel()
                    call.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                await asyncio.sleep(pause)
        finally:
            await feed.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _send(feed: AsyncFeed, call: Any) -> None:
    try:
        async with aclosing(feed.requests()) as requests:
            async for request in requests:
                await call.write(request)
    finally:
        await call.done_writing()


def _metadata(request_id: str) -> tuple[tuple[str, str], ...]:
    return (("x-request-id", request_id), *trace_headers())
