"""What a run writes and prints about its frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import mean, median
from typing import Any

from perception import Scene
from rich.table import Table

Record = dict[str, Any]
"""What a run says of one frame: all of its scene but the maps."""

_STAGES = ("decode", "preprocess", "inference", "postprocess", "fuse", "encode", "total", "call")


def to_record(name: str, scene: Scene) -> Record:
    """The record of a frame. Boxes are xyxy in picture pixels, timings in seconds."""
    return {
        "frame": name,
        "request_id": scene.request_id,
        "image_size": {"height": scene.image_size[0], "width": scene.image_size[1]},
        "segments": [
            {
                "id": segment.id,
                "category": segment.category,
                "is_thing": segment.is_thing,
                "score": round(segment.score, 4),
                "box": [round(edge, 2) for edge in segment.box],
                "area": segment.area,
                "attributes": {found.name: found.value for found in segment.attributes},
            }
            for segment in scene.panoptic.segments
        ],
        "left_out": scene.panoptic.left_out,
        "task_status": {
            task: {"state": status.state, "code": status.code, "reason": status.reason}
            for task, status in scene.task_status.items()
        },
        "models": {task: vars(model) for task, model in scene.models.items()},
        "timings": scene.timings,
    }


def frames_table(records: list[Record], quality: Mapping[str, float] | None) -> Table:
    """A row for each frame: what is in it, how sure, how long it took, and its panoptic quality where that is known."""
    table = Table(title="Scenes", caption="score: mean over all segments; time as the gateway measured it")
    for column in ("frame", "things | stuff"):
        table.add_column(column, overflow="fold")
    for column in ("segments", "score", "total ms", *(["PQ"] if quality else [])):
        table.add_column(column, justify="right")
    for record in records:
        segments = record["segments"]
        score = f"{mean(segment['score'] for segment in segments):.2f}" if segments else "-"
        total = f"{record['timings']['total'] * 1000:.0f}"
        judged = [f"{quality[record['frame']] * 100:.1f}"] if quality else []
        table.add_row(record["frame"], _what_is_in(record), str(len(segments)), score, total, *judged)
    return table


def _what_is_in(record: Record) -> str:
    segments = record["segments"]
    things = Counter(segment["category"] for segment in segments if segment["is_thing"])
    stuff = [segment["category"] for segment in segments if not segment["is_thing"]]
    missing = [
        f"[red]{task} {status['state']}[/]"
        for task, status in record["task_status"].items()
        if status["state"] not in {"OK", "SKIPPED"}
    ]
    counted = ", ".join(f"{count} {category}" for category, count in things.most_common())
    return " | ".join(filter(None, [counted, ", ".join(stuff), ", ".join(missing)]))


def stages_table(records: list[Record]) -> Table:
    """The median time of every stage, for the gateway and each task."""
    table = Table(title="Median time of each stage, ms")
    table.add_column("service")
    for stage in _STAGES:
        table.add_column(stage, justify="right")
    tasks = list(records[0]["task_status"]) if records else []
    for service, prefix in [("gateway", ""), *((task, f"{task}.") for task in tasks)]:
        table.add_row(service, *(_median_ms(records, prefix + stage) for stage in _STAGES))
    return table


def _median_ms(records: list[Record], timing: str) -> str:
    times = [record["timings"][timing] for record in records if timing in record["timings"]]
    return f"{median(times) * 1000:.1f}" if times else "-"
