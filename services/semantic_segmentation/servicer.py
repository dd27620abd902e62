"""Answers `SemanticSegmentationService`."""

from __future__ import annotations

from typing import Any

import grpc.aio
from perception.v1 import semantic_segmentation_pb2, semantic_segmentation_pb2_grpc, task_pb2

from services.runtime.task_service import TaskRuntime, check_enumeration
from services.semantic_segmentation.postprocess import to_class_map


class SemanticSegmentationServicer(semantic_segmentation_pb2_grpc.SemanticSegmentationServiceServicer):
    """Gives every pixel a class."""

    def __init__(self, runtime: TaskRuntime) -> None:
        self._runtime = runtime

    async def SegmentSemantics(  # noqa: N802 - the RPC's name
        self,
        request: semantic_segmentation_pb2.SegmentSemanticsRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> semantic_segmentation_pb2.SegmentSemanticsResponse:
        """Classifies the pixels of one picture."""
        check_enumeration(request, "resolution")
        call = self._runtime.call(context)
        run = await self._runtime.run(request.image, call)
        class_map = await call.work(
            task_pb2.STAGE_POSTPROCESS, lambda: to_class_map(run, request.resolution, request.include_confidence)
        )
        return semantic_segmentation_pb2.SegmentSemanticsResponse(
            class_map=class_map, image_size=run.image_size(), model=run.info, timings=call.clock.timings()
        )
