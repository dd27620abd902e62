"""An answer as plain values, for files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from perception.scene import task_name
from perception.v1 import perception_pb2, task_pb2

from services.camera.gateway_stream import SentFrame


def to_record(camera: str, answer: perception_pb2.PerceiveStreamResponse, sent: SentFrame) -> dict[str, Any]:
    """All of an answer but its pictures and maps. Boxes are xyxy in picture pixels, velocities in pixels per second."""
    record = {
        "camera": camera,
        "sequence": answer.sequence,
        "capture_time": datetime.fromtimestamp(sent.frame.header.capture_time, UTC).isoformat(timespec="milliseconds"),
        "clock": sent.frame.header.clock,
        "position_seconds": sent.frame.header.position,
        "result": answer.WhichOneof("result") or "none",
        "epoch": answer.epoch,
        "age_seconds": answer.age_microseconds / 1e6,
    }
    if answer.degradation:
        name = perception_pb2.Degradation.Name(answer.degradation)
        record["degradation"] = name.removeprefix("DEGRADATION_").lower()
    if answer.trace_id:
        record["trace_id"] = answer.trace_id
    match record["result"]:
        case "scene":
            record |= _scene(answer.scene)
        case "dropped":
            reason = perception_pb2.DropReason.Name(answer.dropped.reason)
            record |= {"reason": reason.removeprefix("DROP_REASON_").lower(), "message": answer.dropped.message}
        case "error":
            record |= {"reason": answer.error.code, "message": answer.error.message}
    return record


def _scene(scene: perception_pb2.PerceiveResponse) -> dict[str, Any]:
    return {
        "request_id": scene.request_id,
        "image_size": {"height": scene.image_size.height, "width": scene.image_size.width},
        "segments": [_segment(segment) for segment in scene.panoptic.segments],
        "left_out": scene.panoptic.left_out,
        "task_status": {
            task_name(status.task): {
                "state": task_pb2.TaskState.Name(status.state).removeprefix("TASK_STATE_"),
                "code": status.code,
                "reason": status.reason,
            }
            for status in scene.task_status
        },
        "seconds": sum(
            timing.microseconds / 1e6
            for timing in scene.timings
            if timing.stage == task_pb2.STAGE_TOTAL and timing.task == task_pb2.TASK_UNSPECIFIED
        ),
    }


def _segment(segment: perception_pb2.Segment) -> dict[str, Any]:
    box = segment.box
    record = {
        "id": segment.id,
        "category": segment.category,
        "is_thing": segment.is_thing,
        "score": round(segment.score, 4),
        "box": [round(edge, 2) for edge in (box.x_min, box.y_min, box.x_max, box.y_max)],
        "area": segment.area,
        "attributes": {found.name: found.value for found in segment.attributes},
    }
    if segment.HasField("track"):
        track = segment.track
        record["track"] = {
            "id": track.id,
            "frames": track.frames,
            "age_seconds": track.age_microseconds / 1e6,
            "velocity": [round(track.velocity_x, 2), round(track.velocity_y, 2)],
        }
    return record
