"""How a stream asked to be treated."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perception.v1 import perception_pb2

from services.gateway.settings import GatewaySettings
from services.runtime.engines import Priority
from services.runtime.errors import InvalidInput, LimitExceeded
from services.runtime.task_service import check_enumeration

_CAMERA = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHORTEST_DEADLINE_SECONDS = 0.001
_NOTHING_ANSWERED = -1


@dataclass(frozen=True)
class StreamOptions:
    """The options of one stream, checked, with the gateway's defaults in place.

    deadline_seconds: from a frame's capture to its answer. answered: frames up to this number were answered before the
    stream was resumed; -1 for none.
    """

    camera: str
    max_in_flight: int
    deadline_seconds: float
    priority: Priority
    track: bool
    answered: int

    @classmethod
    def read(cls, request: perception_pb2.PerceiveStreamRequest, settings: GatewaySettings) -> StreamOptions:
        """The options of a stream's first request. Raises `InvalidInput`, or `LimitExceeded`, naming the field."""
        if not request.HasField("options"):
            raise InvalidInput("options", "is missing: the first frame says how the stream is treated")
        options = request.options
        if not _CAMERA.fullmatch(options.camera):
            raise InvalidInput(
                "options.camera", f"is {options.camera[:80]!r}: expected 1 to 64 letters, digits, '.', '_' or '-'"
            )
        if options.max_in_flight > settings.stream_max_in_flight_limit:
            raise LimitExceeded(
                "options.max_in_flight",
                f"{options.max_in_flight} frames at work at once",
                settings.stream_max_in_flight_limit,
                "stream_max_in_flight_limit",
            )
        try:
            check_enumeration(options, "priority")
        except InvalidInput as error:
            raise InvalidInput("options.priority", error.description) from None
        return cls(
            camera=options.camera,
            max_in_flight=options.max_in_flight or settings.stream_max_in_flight,
            deadline_seconds=_deadline(options, settings),
            priority=Priority(options.priority or Priority.NORMAL),
            track=options.track,
            answered=options.resume_after if options.HasField("resume_after") else _NOTHING_ANSWERED,
        )


def _deadline(options: perception_pb2.StreamOptions, settings: GatewaySettings) -> float:
    if not options.HasField("deadline"):
        return settings.stream_deadline_seconds
    seconds: float = options.deadline.seconds + options.deadline.nanos / 1e9
    if not _SHORTEST_DEADLINE_SECONDS <= seconds <= settings.stream_deadline_limit_seconds:
        raise InvalidInput(
            "options.deadline",
            f"is {seconds:g} s: expected {_SHORTEST_DEADLINE_SECONDS} s to {settings.stream_deadline_limit_seconds} s",
        )
    return seconds
