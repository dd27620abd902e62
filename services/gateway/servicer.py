"""Answers `PerceptionService`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from importlib.metadata import version
from typing import Any

import grpc.aio
from perception import convert
from perception.v1 import perception_pb2, perception_pb2_grpc, task_pb2

from services.gateway.perceiver import Perceiver
from services.gateway.settings import GatewaySettings
from services.gateway.streams.registry import Streams
from services.gateway.tasks import TaskClient
from services.gateway.taxonomy import Taxonomy
from services.runtime.timing import Deadline

_DESCRIBE_SECONDS = 2.0


class PerceptionServicer(perception_pb2_grpc.PerceptionServiceServicer):
    """Turns frames into scenes."""

    def __init__(
        self,
        perceiver: Perceiver,
        streams: Streams,
        settings: GatewaySettings,
        taxonomy: Taxonomy,
        tasks: Mapping[task_pb2.Task, TaskClient],
    ) -> None:
        self._perceiver = perceiver
        self._streams = streams
        self._settings = settings
        self._taxonomy = taxonomy
        self._tasks = tasks

    async def Perceive(  # noqa: N802 - the RPC's name
        self, request: perception_pb2.PerceiveRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> perception_pb2.PerceiveResponse:
        """Perceives one frame."""
        return await self._perceiver.perceive(request, Deadline.of(context, self._settings.default_timeout_seconds))

    async def PerceiveStream(  # noqa: N802 - the RPC's name
        self,
        requests: AsyncIterator[perception_pb2.PerceiveStreamRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncGenerator[perception_pb2.PerceiveStreamResponse, None]:
        """Perceives the frames of one camera."""
        async with aclosing(self._streams.serve(requests)) as answers:
            async for answer in answers:
                yield answer

    async def DescribeSystem(  # noqa: N802 - the RPC's name
        self, request: perception_pb2.DescribeSystemRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> perception_pb2.DescribeSystemResponse:
        """Says what this system does."""
        seen = await asyncio.gather(*(client.describe(_DESCRIBE_SECONDS) for client in self._tasks.values()))
        return perception_pb2.DescribeSystemResponse(
            tasks=[
                perception_pb2.TaskDescription(task=task, ready=not reason, reason=reason, model=model)
                for task, (model, reason) in zip(self._tasks, seen, strict=True)
            ],
            taxonomy=self._taxonomy.name,
            categories=[
                perception_pb2.Category(
                    id=index,
                    name=category.name,
                    is_thing=category.is_thing,
                    color=convert.color_to_integer(category.color),
                )
                for index, category in enumerate(self._taxonomy.categories, 1)
            ],
            version=version("perception-services"),
        )
