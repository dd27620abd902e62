"""A camera agent for tests: a real gRPC server whose cameras play the project's scenes.

The scenes' truth stands in for what a gateway would answer: pictures, panoptic maps, segments and tracks.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import simplejpeg
from perception.codecs import encode_panoptic_png
from perception.v1 import camera_pb2, camera_pb2_grpc, geometry_pb2, image_pb2, perception_pb2, task_pb2

from models.datasets.sample import Sample
from models.datasets.scenes import CATEGORIES, SceneSequence

FRAMES_PER_SECOND = 8.0
DROP_EVERY = 10
MILLISECONDS = {
    (task_pb2.TASK_DETECTION, task_pb2.STAGE_INFERENCE): 18,
    (task_pb2.TASK_DETECTION, task_pb2.STAGE_CALL): 22,
    (task_pb2.TASK_INSTANCE_SEGMENTATION, task_pb2.STAGE_INFERENCE): 41,
    (task_pb2.TASK_INSTANCE_SEGMENTATION, task_pb2.STAGE_POSTPROCESS): 3,
    (task_pb2.TASK_INSTANCE_SEGMENTATION, task_pb2.STAGE_CALL): 47,
    (task_pb2.TASK_SEMANTIC_SEGMENTATION, task_pb2.STAGE_INFERENCE): 23,
    (task_pb2.TASK_SEMANTIC_SEGMENTATION, task_pb2.STAGE_CALL): 27,
    (task_pb2.TASK_UNSPECIFIED, task_pb2.STAGE_DECODE): 2,
    (task_pb2.TASK_UNSPECIFIED, task_pb2.STAGE_FUSE): 4,
    (task_pb2.TASK_UNSPECIFIED, task_pb2.STAGE_TOTAL): 58,
}
_CATEGORY = {category.name: (index, category) for index, category in enumerate(CATEGORIES, 1)}


@dataclass(frozen=True)
class SceneFrame:
    """A frame as it was perceived: JPEG and scene."""

    picture: bytes
    scene: perception_pb2.PerceiveResponse


class SceneCamera:
    """A camera that plays frames forwards and backwards, for ever. All attributes may be changed while it plays."""

    def __init__(self, name: str, frames: Sequence[SceneFrame]) -> None:
        self.status = camera_pb2.CameraStatus(
            name=name,
            state=camera_pb2.CAMERA_STATE_STREAMING,
            source_frames_per_second=25,
            scenes_per_second=FRAMES_PER_SECOND,
            gateway_connected=True,
        )
        self.status.since.GetCurrentTime()
        self.degradation: perception_pb2.Degradation = perception_pb2.DEGRADATION_UNSPECIFIED
        self.watchers = 0
        self.epoch = 1
        there_and_back = [*frames, *frames[-2:0:-1]]
        self._frames = itertools.cycle(there_and_back)
        self._changed = threading.Condition()
        self._newest = camera_pb2.WatchCameraResponse(status=self.status)
        self._number = 0

    def set_state(self, state: camera_pb2.CameraState, reason: str = "", retry_seconds: float | None = None) -> None:
        """Changes what the camera does, and tells its watchers."""
        self.status.state = state
        self.status.reason = reason
        self.status.since.GetCurrentTime()
        self.status.ClearField("retry_time")
        if retry_seconds is not None:
            self.status.retry_time.FromNanoseconds(int((time.time() + retry_seconds) * 1e9))
        self._tell(camera_pb2.WatchCameraResponse(status=self.status))

    def play(self) -> None:
        """The next frame, where the camera streams."""
        if self.status.state != camera_pb2.CAMERA_STATE_STREAMING:
            return
        frame = next(self._frames)
        self.status.sent += 1
        dropped = self.status.sent % DROP_EVERY == 0
        self.status.dropped += dropped
        self.status.perceived += not dropped
        response = camera_pb2.WatchCameraResponse(status=self.status, picture=frame.picture)
        response.capture_time.GetCurrentTime()
        answer = response.answer
        answer.sequence = self.status.sent
        answer.epoch = self.epoch
        answer.degradation = self.degradation
        answer.age_microseconds = 60_000 + 2_000 * (self.status.sent * 7 % 17)
        if dropped:
            answer.dropped.reason = perception_pb2.DROP_REASON_SUPERSEDED
        else:
            answer.scene.CopyFrom(frame.scene)
        self._tell(response)

    def watch(self, stopped: threading.Event, active: grpc.ServicerContext) -> Iterator[camera_pb2.WatchCameraResponse]:
        """What a watcher gets; one that reads slowly misses messages."""
        self.watchers += 1
        seen = -1
        try:
            while active.is_active() and not stopped.is_set():
                with self._changed:
                    self._changed.wait_for(lambda: self._number != seen, timeout=0.1)  # noqa: B023 - at once
                    if self._number == seen:
                        continue
                    seen, newest = self._number, self._newest
                yield newest
                if newest.status.state == camera_pb2.CAMERA_STATE_ENDED:
                    return
        finally:
            self.watchers -= 1

    def _tell(self, response: camera_pb2.WatchCameraResponse) -> None:
        with self._changed:
            self._newest = camera_pb2.WatchCameraResponse()
            self._newest.CopyFrom(response)
            self._number += 1
            self._changed.notify_all()


class SceneAgent(camera_pb2_grpc.CameraServiceServicer):
    """Serves cameras at `address`; `stop` and `start` let it go down and come back there."""

    def __init__(self, cameras: Sequence[SceneCamera]) -> None:
        self.cameras = {camera.status.name: camera for camera in cameras}
        self.address = ""
        self._stopped = threading.Event()
        self._server: grpc.Server | None = None
        self._player: threading.Thread | None = None

    def start(self) -> SceneAgent:
        """Serves, at the same address as before where there was one."""
        self._stopped = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        camera_pb2_grpc.add_CameraServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()
        self._player = threading.Thread(target=self._play, args=(self._stopped,), daemon=True)
        self._player.start()
        return self

    def stop(self) -> None:
        """Goes away as a killed process does: calls break off."""
        assert self._server is not None
        assert self._player is not None
        self._stopped.set()
        self._server.stop(0).wait()
        self._player.join()

    def _play(self, stopped: threading.Event) -> None:
        while not stopped.wait(1 / FRAMES_PER_SECOND):
            for camera in self.cameras.values():
                camera.play()

    def ListCameras(  # noqa: N802 - gRPC's name
        self, request: camera_pb2.ListCamerasRequest, context: grpc.ServicerContext
    ) -> camera_pb2.ListCamerasResponse:
        """All cameras."""
        return camera_pb2.ListCamerasResponse(cameras=[camera.status for camera in self.cameras.values()])

    def WatchCamera(  # noqa: N802 - gRPC's name
        self, request: camera_pb2.WatchCameraRequest, context: grpc.ServicerContext
    ) -> Iterator[camera_pb2.WatchCameraResponse]:
        """One camera."""
        if request.camera not in self.cameras:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no camera {request.camera!r}")
        yield from self.cameras[request.camera].watch(self._stopped, context)


def scene_frames(
    world: str, count: int, size: tuple[int, int] = (320, 240), stride: int = 3, seed: int = 5
) -> list[SceneFrame]:
    """The first frames of a world, `stride` apart, perceived as they truly are. size: (width, height)."""
    sequence = SceneSequence(world, seed=seed, length=count * stride, size=size)  # type: ignore[arg-type]
    return [_perceived(sequence[index], index) for index in range(0, count * stride, stride)]


def _perceived(sample: Sample, index: int) -> SceneFrame:
    height, width = sample.image.shape[:2]
    assert sample.panoptic is not None
    size = image_pb2.ImageSize(height=height, width=width)
    scene = perception_pb2.PerceiveResponse(
        request_id=f"{index:032x}",
        image_size=size,
        panoptic=perception_pb2.Panoptic(size=size, png=encode_panoptic_png(sample.panoptic)),
    )
    for segment in sorted(sample.segments, key=lambda segment: (not segment.is_thing, segment.id)):
        category_id, category = _CATEGORY[segment.category]
        red, green, blue = category.colour
        x_min, y_min, x_max, y_max = segment.box
        message = scene.panoptic.segments.add(
            id=segment.id,
            category=segment.category,
            category_id=category_id,
            is_thing=segment.is_thing,
            score=0.97,
            box=geometry_pb2.Box(x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max),
            area=int(segment.area),
            color=red << 16 | green << 8 | blue,
        )
        for name, value in segment.attributes.items():
            message.attributes.add(name=name, value=value, score=0.88)
        if segment.track_id is not None:
            message.track.id = segment.track_id + 1
            message.track.frames = index + 1
            message.track.age_microseconds = index * 40_000
            message.track.velocity_x, message.track.velocity_y = 30.0, -4.0
    for (task, stage), milliseconds in MILLISECONDS.items():
        scene.timings.add(task=task, stage=stage, microseconds=1000 * milliseconds + 100 * (index % 9))
    for task in (
        task_pb2.TASK_DETECTION,
        task_pb2.TASK_INSTANCE_SEGMENTATION,
        task_pb2.TASK_SEMANTIC_SEGMENTATION,
    ):
        scene.task_status.add(task=task, state=task_pb2.TASK_STATE_OK)
    scene.task_status.add(
        task=task_pb2.TASK_CLASSIFICATION, state=task_pb2.TASK_STATE_SKIPPED, reason="nothing to classify"
    )
    return SceneFrame(simplejpeg.encode_jpeg(sample.image, quality=85), scene)
