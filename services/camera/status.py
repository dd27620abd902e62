"""How one camera is, and what became of its frames: for callers, for metrics and for logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from google.protobuf import timestamp_pb2
from perception.v1 import camera_pb2, image_pb2

from services.camera.capture.protocol import Report
from services.camera.rate import Rate
from services.runtime import metrics

State = camera_pb2.CameraState
_STATES = [state for state in State.values() if state != camera_pb2.CAMERA_STATE_UNSPECIFIED]

log = logging.getLogger(__name__)


def state_name(state: State | int) -> str:
    """A state's name in lower case, such as "streaming"."""
    return State.Name(state).removeprefix("CAMERA_STATE_").lower()


def timestamp(seconds: float) -> timestamp_pb2.Timestamp:
    """A point in time, given in seconds since 1970."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(round(seconds * 1e6))
    return stamp


class CameraStatus:
    """One camera's status. `on_change` is called after its state, or its gateway's, has changed."""

    def __init__(self, name: str, on_change: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._on_change: Callable[[], None] = lambda: None
        self._message = camera_pb2.CameraStatus(name=name)
        self._source_rate = Rate()
        self._scene_rate = Rate()
        self._arrived = self._skipped = 0
        self._last_arrival: float | None = None
        self._results = {
            result: metrics.CAMERA_FRAMES.labels(name, result)
            for result in ("perceived", "dropped", "skipped", "error", "lost")
        }
        self._reconnects = metrics.CAMERA_RECONNECTS.labels(name)
        metrics.CAMERA_LAST_FRAME_AGE.labels(name).set_function(self._last_frame_age)
        metrics.CAMERA_FRAME_RATE.labels(name).set_function(self._source_rate.per_second)
        metrics.CAMERA_SCENE_RATE.labels(name).set_function(self._scene_rate.per_second)
        self._answer_age = metrics.CAMERA_ANSWER_AGE.labels(name)
        self._tracks = metrics.CAMERA_TRACKS.labels(name)
        metrics.CAMERA_GATEWAY_CONNECTED.labels(name).set(0)
        self.enter(camera_pb2.CAMERA_STATE_CONNECTING)
        self._on_change = on_change

    @property
    def state(self) -> State:
        """What the camera is doing."""
        return self._message.state

    @property
    def is_connected(self) -> bool:
        """Whether the gateway answers."""
        return self._message.gateway_connected

    def enter(self, state: State, reason: str = "", retry_time: float | None = None) -> None:
        """The camera is in this state from now on; says why, and when it is tried again."""
        if state == self._message.state and reason == self._message.reason:
            return
        self._message.state = state
        self._message.reason = reason
        self._message.since.CopyFrom(timestamp(time.time()))
        self._message.ClearField("retry_time")
        if retry_time is not None:
            self._message.retry_time.CopyFrom(timestamp(retry_time))
        for each in _STATES:
            metrics.CAMERA_STATE.labels(self.name, state_name(each)).set(each == state)
        if state != camera_pb2.CAMERA_STATE_STREAMING:
            self._tracks.set(0)
        level = logging.WARNING if state in _TROUBLE else logging.INFO
        log.log(level, "camera %s", state_name(state), extra={"camera": self.name, "reason": reason})
        self._on_change()

    def open_again(self) -> None:
        """The source is opened once more: its counts start anew."""
        self._message.reconnects += 1
        self._reconnects.inc()

    def opening(self) -> None:
        """A new capture process counts from zero."""
        self._arrived = self._skipped = 0
        self._source_rate.clear()

    def saw(self, report: Report) -> None:
        """What a capture process said of the source."""
        if report.arrived > self._arrived:
            self._last_arrival = time.monotonic()
        self._source_rate.saw(report.arrived)
        self._count("skipped", report.skipped - self._skipped)
        self._arrived, self._skipped = report.arrived, report.skipped

    def skipped(self) -> None:
        """A frame was captured for a stream that broke off before it was sent."""
        self._count("skipped", 1)

    def sent(self, height: int, width: int) -> None:
        """A frame of that size in pixels went to the gateway."""
        self._message.sent += 1
        self._message.image_size.CopyFrom(image_pb2.ImageSize(height=height, width=width))

    def perceived(self, age_seconds: float, tracks: int) -> None:
        """A frame was answered with a scene, so long after its capture, with so many things that have an identity."""
        self._count("perceived", 1)
        self._answer_age.observe(age_seconds)
        self._tracks.set(tracks)
        self._scene_rate.saw(self._message.perceived)

    def dropped(self) -> None:
        """The gateway left a frame out."""
        self._count("dropped", 1)

    def failed(self) -> None:
        """A frame was answered with an error."""
        self._count("error", 1)

    def lost(self, frames: int) -> None:
        """So many frames were never answered, because their connection broke off."""
        self._count("lost", frames)

    def gateway(self, *, is_connected: bool) -> None:
        """Whether the gateway answers this camera's stream."""
        if is_connected == self._message.gateway_connected:
            return
        self._message.gateway_connected = is_connected
        metrics.CAMERA_GATEWAY_CONNECTED.labels(self.name).set(is_connected)
        if not is_connected:
            self._tracks.set(0)
        self._on_change()

    def message(self) -> camera_pb2.CameraStatus:
        """The status as callers see it."""
        message = camera_pb2.CameraStatus()
        message.CopyFrom(self._message)
        message.source_frames_per_second = self._source_rate.per_second()
        message.scenes_per_second = self._scene_rate.per_second()
        return message

    def _count(self, result: str, frames: int) -> None:
        if frames <= 0:
            return
        self._results[result].inc(frames)
        field = _FIELDS[result]
        setattr(self._message, field, getattr(self._message, field) + frames)

    def _last_frame_age(self) -> float:
        return float("nan") if self._last_arrival is None else time.monotonic() - self._last_arrival


_TROUBLE = (camera_pb2.CAMERA_STATE_STALLED, camera_pb2.CAMERA_STATE_WAITING)
_FIELDS = {"perceived": "perceived", "dropped": "dropped", "skipped": "dropped", "error": "failed", "lost": "failed"}
