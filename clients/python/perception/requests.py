"""Requests as messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from perception.convert import ImageLike, image_to_message
from perception.v1 import geometry_pb2, perception_pb2, task_pb2

Resolution = Literal["frame", "model"]


def perceive_request(
    image: ImageLike, tasks: Iterable[str], score_threshold: float | None, resolution: Resolution
) -> perception_pb2.PerceiveRequest:
    """The request message. Raises `ValueError` for a task or resolution that does not exist."""
    return perception_pb2.PerceiveRequest(
        image=image_to_message(image),
        tasks=[known(task_pb2.Task, "TASK", name) for name in tasks],
        score_threshold=score_threshold,
        resolution=known(geometry_pb2.Resolution, "RESOLUTION", resolution),
        mask_format=geometry_pb2.MASK_FORMAT_BOX,
    )


def known(enumeration: Any, prefix: str, name: str) -> str:
    """The full name of an enumeration's value. Raises `ValueError` naming the values where there is no such one."""
    value = f"{prefix}_{name.upper()}"
    if value not in enumeration.keys()[1:]:
        expected = ", ".join(key.removeprefix(f"{prefix}_").lower() for key in enumeration.keys()[1:])
        raise ValueError(f"{prefix.lower()} {name!r}: expected one of {expected}")
    return value
