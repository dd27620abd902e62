"""Answers `CameraService`."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import grpc.aio
from perception.v1 import camera_pb2, camera_pb2_grpc

from services.camera.agent import RunningCamera
from services.runtime.errors import InvalidInput, NotFound, Overloaded

_MOST_WATCHERS = 256
_RETRY_AFTER_SECONDS = 1.0


class CameraServicer(camera_pb2_grpc.CameraServiceServicer):
    """Tells other backends of an agent's cameras and what they see."""

    def __init__(self, cameras: Mapping[str, RunningCamera]) -> None:
        self._cameras = cameras
        self._watchers = 0

    async def ListCameras(  # noqa: N802 - the RPC's name
        self, request: camera_pb2.ListCamerasRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> camera_pb2.ListCamerasResponse:
        """The agent's cameras and how they are."""
        return camera_pb2.ListCamerasResponse(
            cameras=[self._cameras[name].status.message() for name in sorted(self._cameras)]
        )

    async def WatchCamera(  # noqa: N802 - the RPC's name
        self, request: camera_pb2.WatchCameraRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncGenerator[camera_pb2.WatchCameraResponse, None]:
        """What one camera sees, from now on; ends when the camera does."""
        camera = self._cameras.get(request.camera)
        if camera is None:
            raise NotFound("camera", f"no camera {request.camera!r} here: expected one of {', '.join(self._cameras)}")
        rate = request.max_frames_per_second
        if not math.isfinite(rate) or rate < 0:
            raise InvalidInput("max_frames_per_second", f"is {rate}: expected 0 or more")
        if self._watchers == _MOST_WATCHERS:
            raise Overloaded(f"{_MOST_WATCHERS} watchers are here already", _RETRY_AFTER_SECONDS)
        self._watchers += 1
        try:
            with camera.watchers.watching(camera.status.message, rate) as watcher:
                while (response := await watcher.next(include_picture=request.include_picture)) is not None:
                    yield response
        finally:
            self._watchers -= 1
