"""Gateways whose pace a test decides: real gRPC servers that answer one scene."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from perception.v1 import perception_pb2, perception_pb2_grpc

from tests.clients.python.scenes import response
from tests.support.stream_gateway import StreamGateway


class StallingGateway(perception_pb2_grpc.PerceptionServiceServicer):
    """Answers at once, until so many frames have come: then it neither answers nor reads for `seconds`, once."""

    def __init__(self, after: int, seconds: float) -> None:
        self.seconds = seconds
        self._left = after
        self._goes_on = asyncio.Event()
        self._goes_on.set()

    async def Perceive(self, request: perception_pb2.PerceiveRequest, context: Any) -> perception_pb2.PerceiveResponse:  # noqa: N802
        await self._turn()
        return response()

    async def PerceiveStream(  # noqa: N802
        self, requests: AsyncIterator[perception_pb2.PerceiveStreamRequest], context: Any
    ) -> AsyncIterator[perception_pb2.PerceiveStreamResponse]:
        async for request in requests:
            await self._turn()
            yield perception_pb2.PerceiveStreamResponse(sequence=request.sequence, scene=response())

    async def DescribeSystem(self, request: Any, context: Any) -> perception_pb2.DescribeSystemResponse:  # noqa: N802
        return perception_pb2.DescribeSystemResponse(taxonomy="demo", version="1.2.3")

    async def _turn(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._goes_on.clear()
            asyncio.get_running_loop().call_later(self.seconds, self._goes_on.set)
        await self._goes_on.wait()


class BreakingGateway(StreamGateway):
    """Ends every stream after some frames."""

    async def DescribeSystem(self, request: Any, context: Any) -> perception_pb2.DescribeSystemResponse:  # noqa: N802
        return perception_pb2.DescribeSystemResponse(taxonomy="demo", version="1.2.3")
