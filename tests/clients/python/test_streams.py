"""Streams of both clients against a real gRPC server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from perception import (
    AsyncPerceptionClient,
    Frame,
    FrameDropped,
    FrameError,
    InvalidArgument,
    PerceptionClient,
    StreamAnswer,
    Unavailable,
)
from perception.v1 import geometry_pb2, perception_pb2, task_pb2

from tests.clients.python.scenes import response
from tests.clients.python.server import Gateway, serving

Stream = Callable[..., AsyncIterator[StreamAnswer]]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving() as running:
        yield running


@pytest.fixture(params=["threads", "asyncio"])
def stream(request: pytest.FixtureRequest) -> Stream:
    """A stream of either client: `stream(address, frames, **options)`."""

    async def with_threads(address: str, frames: Iterable[Any], **options: Any) -> AsyncIterator[StreamAnswer]:
        with PerceptionClient(address, token=options.pop("token", None)) as client:
            for answer in client.stream(frames, **options):
                yield answer

    async def with_asyncio(address: str, frames: Iterable[Any], **options: Any) -> AsyncIterator[StreamAnswer]:
        async def one_by_one() -> AsyncIterator[Any]:
            for frame in frames:
                yield frame

        async with AsyncPerceptionClient(address, token=options.pop("token", None)) as client:
            async for answer in client.stream(one_by_one(), **options):
                yield answer

    return with_threads if request.param == "threads" else with_asyncio


async def test_a_stream_says_what_it_was_told(gateway: Gateway, stream: Stream) -> None:
    answers = [
        answer
        async for answer in stream(
            gateway.address,
            [b"one", Frame(b"two", sequence=9, captured=12.5, reset_tracks=True, position=0.04), b"three"],
            camera="gate",
            deadline=0.25,
            max_in_flight=3,
            priority="high",
            track=True,
            resume_after=4,
            tasks=["detection"],
            score_threshold=0.5,
            resolution="model",
            request_id="film-1",
            token="secret",
        )
    ]
    assert [answer.sequence for answer in answers] == [5, 9, 10]
    first, second, third = gateway.stream_requests
    assert first.options == perception_pb2.StreamOptions(
        camera="gate",
        max_in_flight=3,
        deadline=first.options.deadline,
        priority=perception_pb2.PRIORITY_HIGH,
        track=True,
        resume_after=4,
    )
    assert first.options.deadline.ToMilliseconds() == 250
    assert not second.HasField("options")
    assert not third.HasField("options")
    assert [request.frame.image.encoded for request in gateway.stream_requests] == [b"one", b"two", b"three"]
    assert all(list(request.frame.tasks) == [task_pb2.TASK_DETECTION] for request in gateway.stream_requests)
    assert second.frame.score_threshold == 0.5
    assert second.frame.resolution == geometry_pb2.RESOLUTION_MODEL
    assert abs(first.capture_time.ToNanoseconds() / 1e9 - time.time()) < 60
    assert second.capture_time.ToMilliseconds() == 12500
    assert second.position.ToMilliseconds() == 40
    assert not first.HasField("position")
    assert [request.reset_tracks for request in gateway.stream_requests] == [False, True, False]
    assert gateway.metadata["x-request-id"] == "film-1"
    assert gateway.metadata["authorization"] == "Bearer secret"


async def test_a_stream_that_was_told_nothing(gateway: Gateway, stream: Stream) -> None:
    answers = [answer async for answer in stream(gateway.address, [b"one", b"two"], camera="gate")]
    assert [answer.sequence for answer in answers] == [1, 2]
    normal = perception_pb2.StreamOptions(camera="gate", priority=perception_pb2.PRIORITY_NORMAL)
    assert gateway.stream_requests[0].options == normal


async def test_a_stream_that_is_handed_over_goes_on(gateway: Gateway, stream: Stream) -> None:
    """What has no answer goes to the next gateway, also a frame that was taken as the call before ended."""
    gateway.hand_over_after = 3

    def camera() -> Iterator[bytes]:
        for number in range(1, 11):
            time.sleep(0.1 if number % 3 == 1 else 0.0)
            yield b"frame %d" % number

    answers = [answer async for answer in stream(gateway.address, camera(), camera="gate", track=True)]
    assert [answer.sequence for answer in answers] == list(range(1, 11))
    requests = gateway.stream_requests
    assert [request.frame.image.encoded for request in requests] == [b"frame %d" % number for number in range(1, 11)]
    firsts = [request for request in requests if request.HasField("options")]
    assert [request.sequence for request in firsts] == [1, 4, 7, 10]
    assert [request.options.resume_after for request in firsts] == [0, 3, 6, 9]
    assert not firsts[0].options.HasField("resume_after")
    assert all(request.options.track for request in firsts)


async def test_gateways_that_all_hand_over_are_unavailable(gateway: Gateway, stream: Stream) -> None:
    gateway.hand_over_after = 0
    with pytest.raises(Unavailable) as caught:
        await anext(stream(gateway.address, [b"one"], camera="gate"))
    assert caught.value.reason == "STOPPING"
    assert gateway.stream_requests == []


async def test_answers_are_typed(gateway: Gateway, stream: Stream, tmp_path: Path) -> None:
    scene = perception_pb2.PerceiveStreamResponse(
        scene=response(), epoch=7, age_microseconds=1_500_000, degradation=perception_pb2.DEGRADATION_NO_ATTRIBUTES
    )
    thing = scene.scene.panoptic.segments[0]
    thing.track.id, thing.track.frames, thing.track.age_microseconds = 5, 12, 2_000_000
    thing.track.velocity_x, thing.track.velocity_y = 30, -4
    kinds = iter(
        [
            scene,
            perception_pb2.PerceiveStreamResponse(
                error=perception_pb2.FrameError(code="INVALID_ARGUMENT", message="image: is none"), epoch=7
            ),
            perception_pb2.PerceiveStreamResponse(
                dropped=perception_pb2.FrameDropped(
                    reason=perception_pb2.DROP_REASON_TOO_OLD, message="2 s old when its turn came"
                )
            ),
        ]
    )
    gateway.stream = lambda request: next(kinds)
    picture = np.full((6, 8, 3), (200, 100, 0), np.uint8)
    seen, wrong, dropped = [a async for a in stream(gateway.address, [picture] * 3, camera="gate")]
    assert (seen.epoch, seen.age, seen.degradation) == (7, 1.5, "no_attributes")
    assert (seen.error, seen.dropped) == (None, None)
    assert seen.scene is not None
    car, road = seen.scene.panoptic.segments
    assert car.track is not None
    assert (car.track.id, car.track.frames, car.track.age, car.track.velocity) == (5, 12, 2.0, (30.0, -4.0))
    assert road.track is None
    assert seen.scene.image is picture  # it can be drawn on
    assert seen.scene.draw(tmp_path / "overlay.png").shape == (6, 8, 3)
    assert (wrong.scene, wrong.dropped, wrong.degradation) == (None, None, "")
    assert wrong.error == FrameError("INVALID_ARGUMENT", "image: is none")
    assert dropped.dropped == FrameDropped("too_old", "2 s old when its turn came")


async def test_an_answer_that_says_nothing_is_malformed(gateway: Gateway, stream: Stream) -> None:
    gateway.stream = lambda request: perception_pb2.PerceiveStreamResponse()
    with pytest.raises(ValueError, match="frame 1: expected a scene, an error or why it was dropped"):
        await anext(stream(gateway.address, [b"one"], camera="gate"))


async def test_an_error_of_the_frames_comes_after_the_answers_to_what_was_sent(
    gateway: Gateway, stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    def frames() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise ZeroDivisionError("the camera's")

    answers = []

    async def take() -> None:
        async for answer in stream(gateway.address, frames(), camera="gate"):
            answers.append(answer.sequence)

    with pytest.raises(ZeroDivisionError, match="the camera's"):
        await take()
    assert answers == [1, 2]
    assert not caplog.records


async def test_a_picture_that_cannot_be_sent(gateway: Gateway, stream: Stream) -> None:
    with pytest.raises(ValueError, match="expected RGB uint8"):
        await anext(stream(gateway.address, [np.zeros((2, 2), np.uint8)], camera="gate"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": "urgent"}, "priority 'urgent': expected one of high, normal, low"),
        ({"tasks": ["cooking"]}, "task 'cooking': expected one of detection"),
        ({"resolution": "half"}, "resolution 'half': expected one of model, frame"),
    ],
)
def test_a_stream_that_no_request_can_be_made_of_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with PerceptionClient("localhost:1") as client, pytest.raises(ValueError, match=message):
        client.stream([], camera="gate", **options)


async def test_an_error_of_the_stream_is_raised(gateway: Gateway, stream: Stream) -> None:
    def refuse(context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "options.camera: is ''")

    gateway.behaviour = refuse
    with pytest.raises(InvalidArgument, match=r"options\.camera") as raised:
        await anext(stream(gateway.address, [b"one"], camera="", request_id="film-2"))
    assert raised.value.request_id == "film-2"


async def test_nobody_there(stream: Stream) -> None:
    with pytest.raises(Unavailable):
        await anext(stream("127.0.0.1:1", [b"one"], camera="gate"))


def test_closing_the_iterator_ends_the_stream(gateway: Gateway) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"frame"

    with PerceptionClient(gateway.address) as client:
        answers = client.stream(endless(), camera="gate")
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        time.sleep(0.2)
        before = sent
        time.sleep(0.1)
        assert sent <= before + 1


async def test_closing_the_asynchronous_iterator_ends_the_stream(gateway: Gateway) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"frame"
            await asyncio.sleep(0)

    async with AsyncPerceptionClient(gateway.address) as client:
        answers = client.stream(endless(), camera="gate")
        await anext(answers)
        await answers.aclose()  # type: ignore[attr-defined]
        before = sent
        await asyncio.sleep(0.1)
    assert sent == before
