"""What the page is told, made from what agents and the gateway say.

A status is JSON text. A scene is bytes: the lengths of its three parts as little-endian uint32, then a JSON header, the
picture (JPEG; empty for a dropped picture, which the page has), and the panoptic map, which is the gateway's own grey
16-bit PNG of segment ids. The page decodes that PNG itself: a canvas would keep 8 of the 16 bits.

Times are milliseconds since 1970, durations milliseconds, lengths and boxes pixels of the picture as displayed.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from perception.codecs import check_size, decode_rle, encode_panoptic_png
from perception.scene import task_name
from perception.v1 import camera_pb2, image_pb2, perception_pb2, task_pb2

Json = dict[str, Any]

UNREACHABLE = "unreachable"
"""The state of a camera whose agent does not answer; the other states are those of `CameraState`, in lower case."""


def cameras_message(agents: Sequence[Json], max_image_bytes: int | None) -> str:
    """The list of all cameras. max_image_bytes: of a dropped picture; None where none can be perceived."""
    return json.dumps(
        {"kind": "cameras", "now": time.time() * 1e3, "agents": list(agents), "max_image_bytes": max_image_bytes}
    )


def status_message(status: Json, notice: str = "") -> str:
    """How one camera is. notice: what became of its last frame, where it has no scene."""
    return json.dumps({"kind": "status", "status": status, "notice": notice})


def frame_notice(answer: perception_pb2.PerceiveStreamResponse) -> str:
    """Why a frame has no scene, for a person; empty for a frame that was just dropped, which is counted."""
    return f"{answer.error.code}: {answer.error.message}" if answer.WhichOneof("result") == "error" else ""


def scene_message(response: camera_pb2.WatchCameraResponse, number: int) -> bytes:
    """A camera's scene. number: counts the scenes of an upstream, so that a page knows what it missed."""
    answer = response.answer
    header = {
        "status": camera(response.status),
        "number": number,
        "sequence": answer.sequence,
        "epoch": answer.epoch,
        "capture_time": _milliseconds(response.capture_time),
        "age": answer.age_microseconds / 1e3,
        "degradation": _name(perception_pb2.Degradation, answer.degradation, "DEGRADATION_"),
    }
    return _pack(header, answer.scene, response.picture)


def picture_message(scene: perception_pb2.PerceiveResponse, milliseconds: float) -> bytes:
    """The scene of a dropped picture, and how long the gateway took for it."""
    return _pack({"age": milliseconds}, scene, b"")


def camera(status: camera_pb2.CameraStatus) -> Json:
    """A camera's status."""
    return {
        "name": status.name,
        "state": _name(camera_pb2.CameraState, status.state, "CAMERA_STATE_"),
        "reason": status.reason,
        "since": _milliseconds(status.since),
        "retry_time": _milliseconds(status.retry_time) if status.HasField("retry_time") else None,
        "source_frames_per_second": round(status.source_frames_per_second, 2),
        "scenes_per_second": round(status.scenes_per_second, 2),
        "sent": status.sent,
        "perceived": status.perceived,
        "dropped": status.dropped,
        "failed": status.failed,
        "reconnects": status.reconnects,
        "gateway_connected": status.gateway_connected,
    }


def _pack(header: Json, scene: perception_pb2.PerceiveResponse, picture: bytes) -> bytes:
    header = {"kind": "scene", **header, **_scene(scene)}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    panoptic = _panoptic_png(scene.panoptic)
    return struct.pack("<3I", len(encoded), len(picture), len(panoptic)) + encoded + picture + panoptic


def _scene(scene: perception_pb2.PerceiveResponse) -> Json:
    return {
        "request_id": scene.request_id,
        "trace_id": scene.trace_id,
        "image_size": _size(scene.image_size),
        "map_size": _size(scene.panoptic.size),
        "segments": [_segment(segment) for segment in scene.panoptic.segments],
        "timings": [
            {"task": _task(timing.task), "stage": _stage(timing.stage), "milliseconds": timing.microseconds / 1e3}
            for timing in scene.timings
        ],
        "task_status": [
            {
                "task": _task(status.task),
                "state": _name(task_pb2.TaskState, status.state, "TASK_STATE_"),
                "reason": status.reason,
            }
            for status in scene.task_status
        ],
    }


def _segment(segment: perception_pb2.Segment) -> Json:
    box = segment.box
    values: Json = {
        "id": segment.id,
        "category": segment.category,
        "category_id": segment.category_id,
        "is_thing": segment.is_thing,
        "score": round(segment.score, 4),
        "box": [round(edge, 2) for edge in (box.x_min, box.y_min, box.x_max, box.y_max)],
        "area": segment.area,
        "color": segment.color,
        "attributes": [
            {"name": attribute.name, "value": attribute.value, "score": round(attribute.score, 4)}
            for attribute in segment.attributes
        ],
    }
    if segment.HasField("track"):
        track = segment.track
        values["track"] = {
            "id": track.id,
            "frames": track.frames,
            "age": track.age_microseconds / 1e3,
            "velocity": [round(track.velocity_x, 2), round(track.velocity_y, 2)],
        }
    return values


def _panoptic_png(panoptic: perception_pb2.Panoptic) -> bytes:
    """The map as PNG; an agent that asks for run lengths has them drawn into one. Empty where the map is broken."""
    if panoptic.png or not panoptic.segments:
        return panoptic.png
    height, width = panoptic.size.height, panoptic.size.width
    try:
        check_size(height, width)
        ids = np.zeros((height, width), np.int32)
        for segment in panoptic.segments:
            ids[decode_rle(segment.rle.counts, height, width)] = segment.id
        return encode_panoptic_png(ids)
    except ValueError:
        return b""


def _size(size: image_pb2.ImageSize) -> Json:
    return {"width": size.width, "height": size.height}


def _milliseconds(time: Timestamp) -> float:
    return time.ToNanoseconds() / 1e6


def _task(task: task_pb2.Task) -> str:
    return "gateway" if task == task_pb2.TASK_UNSPECIFIED else task_name(task)


def _stage(stage: task_pb2.Stage) -> str:
    return _name(task_pb2.Stage, stage, "STAGE_")


def _name(enumeration: Any, value: int, prefix: str) -> str:
    """A value's name in lower snake case; of one that a newer peer knows and this viewer does not, its number."""
    try:
        return str(enumeration.Name(value)).removeprefix(prefix).lower()
    except ValueError:
        return str(value)
