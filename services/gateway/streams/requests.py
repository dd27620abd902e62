"""The messages of a stream as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from perception.v1 import perception_pb2


class Requests(AsyncIterator[perception_pb2.PerceiveStreamRequest]):
    """The messages that a call receives, none of which is kept: gRPC's own iterator has the last one, with its picture,
    until another comes.
    """

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context

    async def __anext__(self) -> perception_pb2.PerceiveStreamRequest:
        request: Any = await self._context.read()
        if request is grpc.aio.EOF:
            raise StopAsyncIteration
        message: perception_pb2.PerceiveStreamRequest = request
        return message
