"""What a stream may ask for."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import duration_pb2
from perception.v1 import perception_pb2
from pydantic import ValidationError

from services.gateway.settings import GatewaySettings
from services.gateway.streams.options import StreamOptions
from services.runtime.engines import Priority
from services.runtime.errors import InvalidInput, LimitExceeded


def read(**options: Any) -> StreamOptions:
    request = perception_pb2.PerceiveStreamRequest(options=perception_pb2.StreamOptions(**options))
    return StreamOptions.read(request, GatewaySettings())


def test_what_is_not_said_is_the_default() -> None:
    assert read(camera="gate-1") == StreamOptions("gate-1", 1, 2.0, Priority.NORMAL, False, -1)


def test_what_is_said_holds() -> None:
    options = read(
        camera="A.b_c-9",
        max_in_flight=8,
        deadline=duration_pb2.Duration(nanos=1_000_000),
        priority=perception_pb2.PRIORITY_LOW,
        track=True,
        resume_after=0,
    )
    assert options == StreamOptions("A.b_c-9", 8, 0.001, Priority.LOW, True, 0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "options.camera"),
        ({"camera": "a" * 65}, "options.camera"),
        ({"camera": "front door"}, "options.camera"),
        ({"camera": "gate\n"}, "options.camera"),
        ({"camera": "türe"}, "options.camera"),
        ({"camera": "a", "max_in_flight": 9}, "options.max_in_flight"),
        ({"camera": "a", "deadline": duration_pb2.Duration()}, "options.deadline"),
        ({"camera": "a", "deadline": duration_pb2.Duration(seconds=-1)}, "options.deadline"),
        ({"camera": "a", "deadline": duration_pb2.Duration(seconds=61)}, "options.deadline"),
        ({"camera": "a", "priority": 9}, "options.priority"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises((InvalidInput, LimitExceeded)) as raised:
        read(**options)
    assert raised.value.field == field


def test_options_are_asked_for() -> None:
    with pytest.raises(InvalidInput, match="options: is missing"):
        StreamOptions.read(perception_pb2.PerceiveStreamRequest(sequence=1), GatewaySettings())


@pytest.mark.parametrize(
    "settings",
    [
        {"stream_max_in_flight": 9},
        {"stream_max_in_flight": 2, "stream_max_in_flight_limit": 1},
        {"stream_deadline_seconds": 61.0},
    ],
)
def test_a_default_beyond_its_limit_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is less than STREAM_"):
        GatewaySettings(**settings)
