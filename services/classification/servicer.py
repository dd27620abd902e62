"""Answers `ClassificationService`."""

from __future__ import annotations

from typing import Any

import grpc.aio
import numpy as np
from numpy.typing import NDArray
from perception.v1 import classification_pb2, classification_pb2_grpc, image_pb2, task_pb2

from services.classification.postprocess import to_classifications
from services.classification.preprocess import to_tensor
from services.runtime.engines import Model
from services.runtime.errors import LimitExceeded
from services.runtime.images import Picture
from services.runtime.task_service import Call, TaskRuntime


class ClassificationServicer(classification_pb2_grpc.ClassificationServiceServicer):
    """Names what a picture, or a region of it, shows."""

    def __init__(self, runtime: TaskRuntime) -> None:
        self._runtime = runtime

    async def Classify(  # noqa: N802 - the RPC's name
        self, request: classification_pb2.ClassifyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> classification_pb2.ClassifyResponse:
        """Classifies the whole picture, or each of a list of regions."""
        limit = self._runtime.settings.max_boxes
        if len(request.boxes) > limit:
            raise LimitExceeded("boxes", f"{len(request.boxes)} boxes", limit, "max_boxes")
        call = self._runtime.call(context)
        picture = await self._runtime.decode(request.image, call)
        model = await self._runtime.model(call)
        tensor = await call.work(task_pb2.STAGE_PREPROCESS, lambda: to_tensor(picture, request.boxes, model))
        probabilities, info = await self._infer(model, tensor, call)
        classifications = await call.work(
            task_pb2.STAGE_POSTPROCESS,
            lambda: to_classifications(probabilities, model.labels, min(max(request.top_k, 1), len(model.labels))),
        )
        height, width = picture.shape[:2]
        return classification_pb2.ClassifyResponse(
            classifications=classifications,
            image_size=image_pb2.ImageSize(height=height, width=width),
            model=info,
            timings=call.clock.timings(),
        )

    async def _infer(self, model: Model, tensor: Picture, call: Call) -> tuple[NDArray[np.float32], task_pb2.ModelInfo]:
        """Probabilities float32 [N, C] of all regions, in as few calls as the model's largest batch allows."""
        regions = len(tensor)
        if model.max_batch_size:
            parts = [tensor[at : at + model.max_batch_size] for at in range(0, regions, model.max_batch_size)]
        else:
            parts = list(tensor)
        answers = [await self._runtime.infer(model, part, call) for part in parts]
        probabilities = np.concatenate(
            [outputs["probabilities"].reshape(-1, len(model.labels)) for outputs, _ in answers]
        )
        return probabilities, answers[-1][1]
