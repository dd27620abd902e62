"""Answers `InstanceSegmentationService`."""

from __future__ import annotations

from typing import Any

import grpc.aio
from perception.v1 import instance_segmentation_pb2, instance_segmentation_pb2_grpc, task_pb2

from services.instance_segmentation.postprocess import to_instances
from services.runtime.task_service import TaskRuntime, check_enumeration, score_threshold


class InstanceSegmentationServicer(instance_segmentation_pb2_grpc.InstanceSegmentationServiceServicer):
    """Finds objects, their boxes and their masks."""

    def __init__(self, runtime: TaskRuntime) -> None:
        self._runtime = runtime

    async def SegmentInstances(  # noqa: N802 - the RPC's name
        self,
        request: instance_segmentation_pb2.SegmentInstancesRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> instance_segmentation_pb2.SegmentInstancesResponse:
        """Segments the objects in one picture."""
        threshold = score_threshold(request, self._runtime.settings.score_threshold)
        check_enumeration(request, "mask_format")
        call = self._runtime.call(context)
        run = await self._runtime.run(request.image, call)
        instances = await call.work(
            task_pb2.STAGE_POSTPROCESS, lambda: to_instances(run, threshold, request.mask_format)
        )
        return instance_segmentation_pb2.SegmentInstancesResponse(
            instances=instances, image_size=run.image_size(), model=run.info, timings=call.clock.timings()
        )
