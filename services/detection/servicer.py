"""Answers `DetectionService`."""

from __future__ import annotations

from typing import Any

import grpc.aio
from perception.v1 import detection_pb2, detection_pb2_grpc, task_pb2

from services.detection.postprocess import to_detections
from services.runtime.task_service import TaskRuntime, score_threshold


class DetectionServicer(detection_pb2_grpc.DetectionServiceServicer):
    """Finds objects and their boxes."""

    def __init__(self, runtime: TaskRuntime) -> None:
        self._runtime = runtime

    async def Detect(  # noqa: N802 - the RPC's name
        self, request: detection_pb2.DetectRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> detection_pb2.DetectResponse:
        """Detects objects in one picture."""
        threshold = score_threshold(request, self._runtime.settings.score_threshold)
        call = self._runtime.call(context)
        run = await self._runtime.run(request.image, call)
        detections = await call.work(task_pb2.STAGE_POSTPROCESS, lambda: to_detections(run, threshold))
        return detection_pb2.DetectResponse(
            detections=detections, image_size=run.image_size(), model=run.info, timings=call.clock.timings()
        )
