"""The agent: its cameras, each with its stream to the gateway, its sinks and its watchers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from random import Random

import av
from perception.channels import channel_options
from perception.client import MAX_MESSAGE_BYTES, RETRIED
from perception.connections import open_async_channel
from perception.v1 import camera_pb2, perception_pb2, perception_pb2_grpc

from services.camera.camera import Camera
from services.camera.gateway_stream import GatewayStream, SentFrame
from services.camera.settings import (
    AgentSettings,
    AnnotatedVideoSink,
    CameraSettings,
    CocoVideoSink,
    JsonlSink,
    SettingsError,
)
from services.camera.sinks.annotated_video import AnnotatedVideo
from services.camera.sinks.base import Sink, SinkWriter
from services.camera.sinks.coco_video import CocoVideoFile
from services.camera.sinks.jsonl import JsonlFile
from services.camera.status import CameraStatus
from services.camera.watchers import Watchers
from services.runtime.settings import CallerSettings

_LAST_ANSWERS_SECONDS = 3.0
"""Time for the frames at work to be answered when the agent stops."""
_CHANNEL_OPTIONS: list[tuple[str, str | int]] = [
    *channel_options(MAX_MESSAGE_BYTES, RETRIED),
    # A gateway that comes back is found within a second; one that vanished without a word is noticed in half a minute.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]

log = logging.getLogger(__name__)


class RunningCamera:
    """One camera with all that belongs to it. Raises `SettingsError` where a sink cannot be opened."""

    def __init__(self, settings: CameraSettings, stub: perception_pb2_grpc.PerceptionServiceAsyncStub) -> None:
        # Every camera and every agent waits differently.
        random = Random()  # noqa: S311
        self.name = settings.name
        self.watchers = Watchers()
        self.status = CameraStatus(settings.name, self.watchers.changed)
        self._camera = Camera(settings, self.status, random)
        self._stream = GatewayStream(stub, settings, self._camera, self.status, self._room, self._answered, random)
        is_lossless = settings.capture_options().is_lossless
        self._sinks = [
            SinkWriter(settings.name, kind, sink, is_lossless=is_lossless) for kind, sink in _open_sinks(settings)
        ]
        self._following: asyncio.Task[None] | None = None
        self._is_stopping = False

    async def run(self) -> None:
        """Runs until the source has ended, or the camera is stopped, and all files are complete."""
        async with asyncio.TaskGroup() as group:
            for sink in self._sinks:
                group.create_task(sink.run())
            self._following = group.create_task(self._camera.run())
            streaming = group.create_task(self._stream.run())
            await asyncio.wait((self._following,))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience()):
                    await streaming
            for sink in self._sinks:
                sink.end()
        self.watchers.end()

    def stop(self) -> None:
        """Ends the camera; `run` then comes to its end."""
        if self._is_stopping:
            return
        self._is_stopping = True
        if self.status.state != camera_pb2.CAMERA_STATE_ENDED:
            self.status.enter(camera_pb2.CAMERA_STATE_ENDED, "the agent is stopping")
        self._camera.end()
        if self._following is not None:
            self._following.cancel()

    def _patience(self) -> float | None:
        """Seconds to wait for the last answers; None: until they have come."""
        if not self._is_stopping:
            return None
        return _LAST_ANSWERS_SECONDS if self.status.is_connected else 0.0

    async def _room(self) -> None:
        for sink in self._sinks:
            await sink.room()

    def _answered(self, answer: perception_pb2.PerceiveStreamResponse, sent: SentFrame) -> None:
        match answer.WhichOneof("result"):
            case "scene":
                tracks = sum(segment.HasField("track") for segment in answer.scene.panoptic.segments)
                self.status.perceived(answer.age_microseconds / 1e6, tracks)
            case "dropped":
                self.status.dropped()
            case _:
                self.status.failed()
        self.watchers.answered(answer, sent)
        for sink in self._sinks:
            sink.add(answer, sent)


class Agent:
    """All cameras of one agent. caller: how it shows the gateway who it is.

    Raises `SettingsError` where a camera cannot be set up.
    """

    def __init__(self, settings: AgentSettings, caller: CallerSettings) -> None:
        self._channel = open_async_channel(settings.gateway, _CHANNEL_OPTIONS, caller.tls_as_caller, caller.token_file)
        stub: perception_pb2_grpc.PerceptionServiceAsyncStub = perception_pb2_grpc.PerceptionServiceStub(self._channel)
        self.cameras = {camera.name: RunningCamera(camera, stub) for camera in settings.cameras}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts all cameras."""
        self._tasks = [asyncio.create_task(self._run(camera)) for camera in self.cameras.values()]

    async def wait(self) -> None:
        """Waits until all cameras have ended."""
        await asyncio.wait(self._tasks)

    def stop(self) -> None:
        """Tells all cameras to end, and their watchers that they do."""
        for camera in self.cameras.values():
            camera.stop()
            camera.watchers.end()

    async def close(self) -> None:
        """Waits until all is ended after `stop`, and closes the connection to the gateway."""
        await self.wait()
        await self._channel.close()

    async def _run(self, camera: RunningCamera) -> None:
        try:
            await camera.run()
        except Exception as error:  # a defect: the other cameras go on
            log.exception("camera given up", extra={"camera": camera.name})
            camera.status.enter(camera_pb2.CAMERA_STATE_ENDED, f"given up: {error}")
            camera.watchers.end()


def _open_sinks(settings: CameraSettings) -> Sequence[tuple[str, Sink]]:
    opened: list[tuple[str, Sink]] = []
    for number, sink in enumerate(settings.sinks):
        try:
            opened.append((sink.kind, _open_sink(settings.name, sink)))
        except (OSError, av.FFmpegError) as error:
            raise SettingsError(f"camera {settings.name}: sinks[{number}]: cannot write {sink.path}: {error}") from None
    return opened


def _open_sink(camera: str, sink: JsonlSink | CocoVideoSink | AnnotatedVideoSink) -> Sink:
    match sink:
        case JsonlSink():
            return JsonlFile(camera, sink.path)
        case CocoVideoSink():
            return CocoVideoFile(camera, sink.path)
        case AnnotatedVideoSink():
            return AnnotatedVideo(sink.path)
