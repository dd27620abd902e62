"""A gateway for the tests of its callers: a real gRPC server whose answers to streams a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from grpc_status import rpc_status
from perception.v1 import perception_pb2, perception_pb2_grpc

from services.runtime.errors import Stopping
from services.runtime.status import error_status
from tests.clients.python.scenes import response

Request = perception_pb2.PerceiveStreamRequest
Response = perception_pb2.PerceiveStreamResponse


class StreamGateway(perception_pb2_grpc.PerceptionServiceServicer):
    """Answers each frame with the scene of `scenes.response`, `seconds` after it came, one at a time.

    streams: all requests by stream, without their pictures. pictures: the last one's JPEG. Frames up to a stream's
    `resume_after` are answered as dropped, as the real gateway does. hold: cleared, no frame is answered. end_after: so
    many frames end a stream; hands_over: as the real gateway ends it when it stops, and not without a word.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.streams: list[list[Request]] = []
        self.picture = b""
        self.hold = asyncio.Event()
        self.hold.set()
        self.end_after: int | None = None
        self.hands_over = False

    async def PerceiveStream(  # noqa: N802 - the RPC's name
        self, requests: AsyncIterator[Request], context: Any
    ) -> AsyncIterator[Response]:
        stream: list[Request] = []
        self.streams.append(stream)
        async for request in requests:
            self.picture = request.frame.image.encoded
            request.frame.image.encoded = b""
            stream.append(request)
            await self.hold.wait()
            await asyncio.sleep(self.seconds)
            answer = Response(sequence=request.sequence, epoch=len(self.streams))
            options = stream[0].options
            if options.HasField("resume_after") and request.sequence <= options.resume_after:
                answer.dropped.reason = perception_pb2.DROP_REASON_ALREADY_ANSWERED
            else:
                answer.scene.CopyFrom(response())
            yield answer
            if len(stream) == self.end_after:
                if self.hands_over:
                    await context.abort_with_status(rpc_status.to_status(error_status(Stopping())))
                return

    def sequences(self) -> list[int]:
        """The numbers of all frames that came, in order of arrival."""
        return [request.sequence for stream in self.streams for request in stream]


@asynccontextmanager
async def serving(gateway: StreamGateway, port: int = 0) -> AsyncIterator[int]:
    """Serves on a port of this machine; yields the port. At the end all calls are cut off."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    perception_pb2_grpc.add_PerceptionServiceServicer_to_server(gateway, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)
