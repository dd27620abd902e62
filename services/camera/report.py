"""What a watcher is told of a camera, as a line for a person."""

from __future__ import annotations

from collections import Counter

from perception.v1 import camera_pb2
from rich.text import Text

from services.camera.status import state_name

_STYLES = {
    camera_pb2.CAMERA_STATE_STREAMING: "green",
    camera_pb2.CAMERA_STATE_STALLED: "yellow",
    camera_pb2.CAMERA_STATE_WAITING: "red",
}


def camera_line(news: camera_pb2.WatchCameraResponse) -> Text:
    """Name, state, rates, counts, and what the last frame showed."""
    status = news.status
    parts = [
        Text(status.name, "bold"),
        Text(state_name(status.state), _STYLES.get(status.state, "")),
        Text(f"{status.source_frames_per_second:.1f} frames/s in, {status.scenes_per_second:.1f} scenes/s out"),
        Text(f"{status.perceived} perceived, {status.dropped} dropped, {status.failed} failed"),
    ]
    if status.reason:
        parts.insert(2, Text(status.reason))
    if not status.gateway_connected:
        parts.append(Text("no gateway", "red"))
    if news.HasField("answer"):
        parts.append(Text(f"{news.answer.age_microseconds / 1e3:.0f} ms: {_what_is_in(news)}"))
    return Text(" | ").join(parts)


def _what_is_in(news: camera_pb2.WatchCameraResponse) -> str:
    match news.answer.WhichOneof("result"):
        case "scene":
            segments = news.answer.scene.panoptic.segments
            counts = Counter(segment.category for segment in segments if segment.is_thing)
            return ", ".join(f"{number} {category}" for category, number in counts.most_common()) or "no things"
        case "dropped":
            return f"dropped, {news.answer.dropped.message}"
        case _:
            return f"{news.answer.error.code}: {news.answer.error.message}"
