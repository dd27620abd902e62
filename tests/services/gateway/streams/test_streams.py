"""What a stream promises, over a system whose timing the test decides."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from google.protobuf import duration_pb2
from perception.v1 import perception_pb2, task_pb2
from prometheus_client import REGISTRY

from services.gateway.settings import GatewaySettings
from services.gateway.streams.registry import Streams
from services.runtime.engines import Priority
from services.runtime.errors import DeadlineExceeded, InvalidInput, NoTaskAnswered, Overloaded, Stopping, StreamIdle
from tests.services.gateway.streams.cameras import Camera, System, scene, settle, what


def over(system: System, **settings: Any) -> Streams:
    return Streams(GatewaySettings(**settings), system)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    yield
    assert REGISTRY.get_sample_value("perception_streams") == 0
    assert REGISTRY.get_sample_value("perception_stream_frames_at_work") == 0
    (degradation,) = (metric for metric in REGISTRY.collect() if metric.name == "perception_stream_degradation")
    assert not degradation.samples


async def begin(camera: Camera, *sequences: int) -> asyncio.Task[Any]:
    """Sends these frames one after the other; the task takes all answers."""
    taking = asyncio.create_task(camera.take_all())
    for sequence in sequences:
        camera.send(sequence)
        await settle()
    return taking


def test_the_limits_are_told() -> None:
    over(System(), max_streams=7, stream_capacity=3)
    assert REGISTRY.get_sample_value("perception_limit", {"resource": "streams"}) == 7
    assert REGISTRY.get_sample_value("perception_limit", {"resource": "stream_frames"}) == 3


async def test_the_newest_frame_wins_and_none_goes_unanswered() -> None:
    system = System()
    camera = Camera(over(system), max_in_flight=2)
    taking = await begin(camera, 1, 2, 3, 4, 5)
    assert list(system.at_work) == ["gate1", "gate2"]
    await system.finish("gate2")  # answered after the first all the same
    assert not camera.answers
    await system.finish("gate1")
    assert list(system.at_work) == ["gate5"]
    camera.end()
    await system.finish("gate5")
    assert await taking == [(1, "scene"), (2, "scene"), (3, "superseded"), (4, "superseded"), (5, "scene")]
    assert system.most_at_work == 2
    assert all(answer.age_microseconds > 0 for answer in camera.answers)
    assert len({answer.epoch for answer in camera.answers}) == 1


async def test_what_is_read_is_bounded_while_no_answer_is_taken() -> None:
    system = System(seconds=0.0)
    camera = Camera(over(system, stream_max_unanswered=5), max_in_flight=2)
    for sequence in range(1, 41):
        camera.send(sequence)
    camera.end()
    first = await camera.take()
    await asyncio.sleep(0.05)
    assert first.sequence == 1
    # The first is on its way and not known to be taken: it counts.
    assert camera.read == 5
    assert len(system.begun) <= 2
    answered = await camera.take_all()
    assert [sequence for sequence, _ in answered] == list(range(1, 41))
    assert {word for _, word in answered} == {"scene", "superseded"}


async def test_a_frame_too_old_is_dropped_and_one_without_a_time_is_new() -> None:
    system = System()
    camera = Camera(over(system), max_in_flight=1, deadline_seconds=1.0)
    taking = asyncio.create_task(camera.take_all())
    camera.send(1, age=0.95)  # a tenth of the deadline must be left
    camera.send(2, age=-3600)  # from the future: its clock is wrong
    await settle()
    assert system.deadlines["gate2"] == pytest.approx(1.0, abs=0.4)
    await system.finish("gate2")
    camera.send(3, age=0.5)
    await settle()
    assert system.deadlines["gate3"] == pytest.approx(0.5, abs=0.3)
    await system.finish("gate3")
    camera.send(4, age=4e10)  # taken in the Middle Ages
    camera.end()
    assert await taking == [(1, "too_old"), (2, "scene"), (3, "scene"), (4, "too_old")]
    assert "s old when its turn came, the deadline is 1 s" in camera.answers[0].dropped.message
    assert 0.4e6 < camera.answers[2].age_microseconds < 1e6
    assert camera.answers[3].age_microseconds > 3e16


async def test_a_frame_grows_too_old_while_it_waits_for_its_turn() -> None:
    system = System()
    streams = over(system, stream_capacity=1)
    busy, waits = Camera(streams, "busy"), Camera(streams, "waits", deadline_seconds=0.1)
    taking = [await begin(busy, 1), await begin(waits, 1)]
    await asyncio.sleep(0.2)
    assert waits.answers[0].dropped.reason == perception_pb2.DROP_REASON_TOO_OLD
    assert system.begun == ["busy1"]
    for camera in (busy, waits):
        camera.end()
    await system.finish("busy1")
    await asyncio.gather(*taking)


async def test_a_picture_is_let_go_when_its_frame_is_answered() -> None:
    sent: list[perception_pb2.PerceiveStreamRequest] = []
    answered = asyncio.Event()

    async def requests() -> AsyncIterator[perception_pb2.PerceiveStreamRequest]:
        for sequence in (1, 2):
            sent.append(perception_pb2.PerceiveStreamRequest(sequence=sequence))
            sent[-1].frame.image.encoded = b"picture"
            if sequence == 1:
                sent[-1].options.camera = "gate"
            yield sent[-1]
            await answered.wait()
            answered.clear()

    stream = over(System(seconds=0.0)).serve(requests())
    for number in range(2):
        await anext(stream)
        await settle()
        # The list holds the message, and nobody its frame; either would keep the picture.
        held = sys.getrefcount(sent[number]), sys.getrefcount(sent[number].frame)
        assert held == (2, 1)
        answered.set()
        await settle()
    await stream.aclose()


async def test_numbers_must_grow_and_options_come_once() -> None:
    system = System(seconds=0.0)
    camera = Camera(over(system))
    taking = asyncio.create_task(camera.take_all())
    for sequence in (0, 7, 7, 3):
        camera.send(sequence)
        await asyncio.sleep(0.01)
    camera.send(8, options=camera.options)
    camera.send(9)
    camera.end()
    assert await taking == [
        (0, "scene"), (7, "scene"), (7, "INVALID_ARGUMENT"), (3, "INVALID_ARGUMENT"), (8, "INVALID_ARGUMENT"),
        (9, "scene"),
    ]  # fmt: skip
    assert camera.answers[2].error.message == "sequence: is 7 after 7: expected a greater one"
    assert camera.answers[4].error.message.startswith("options: ")


async def test_a_resumed_stream_perceives_nothing_twice() -> None:
    system = System(seconds=0.0)
    camera = Camera(over(system), resume_after=5)
    taking = asyncio.create_task(camera.take_all())
    for sequence in (4, 5, 6):
        camera.send(sequence)
    camera.end()
    assert await taking == [(4, "already_answered"), (5, "already_answered"), (6, "scene")]
    assert system.begun == ["gate6"]


async def test_frames_fail_and_the_stream_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    system = System(seconds=0.0)
    faults: dict[str, BaseException] = {
        "gate1": InvalidInput("image.encoded", "is no picture"),
        "gate2": NoTaskAnswered({"TASK_DETECTION": "down"}),
        "gate3": DeadlineExceeded("fan-out"),
        "gate4": ZeroDivisionError("a secret"),
    }

    def outcome(name: str) -> perception_pb2.PerceiveResponse:
        if name in faults:
            raise faults[name]
        return scene()

    system.outcome = outcome
    camera = Camera(over(system))
    taking = asyncio.create_task(camera.take_all())
    for sequence in range(1, 6):
        camera.send(sequence)
        await asyncio.sleep(0.01)
    camera.end()
    assert await taking == [
        (1, "INVALID_ARGUMENT"), (2, "UNAVAILABLE"), (3, "DEADLINE_EXCEEDED"), (4, "INTERNAL"), (5, "scene"),
    ]  # fmt: skip
    assert "image.encoded" in camera.answers[0].error.message
    assert camera.answers[3].error.message == "internal error"
    assert any("cannot perceive the frame" in record.message for record in caplog.records)


async def test_every_camera_gets_its_turns_however_fast_it_is() -> None:
    """Ten cameras at 5 frames a second beside one at 500, over a system that does 200: nobody starves."""
    system = System(seconds=0.01)
    streams = over(system, stream_capacity=2)
    fast = Camera(streams, "fast", max_in_flight=8)
    slow = [Camera(streams, f"slow{index}-") for index in range(10)]

    async def film(camera: Camera, frames: int, period: float) -> None:
        taking = asyncio.create_task(camera.take_all())
        for sequence in range(frames):
            camera.send(sequence)
            await asyncio.sleep(period)
        camera.end()
        await taking

    async with asyncio.TaskGroup() as group:
        group.create_task(film(fast, 500, 0.002))
        for camera in slow:
            group.create_task(film(camera, 5, 0.2))
    for camera in slow:
        assert [answer.WhichOneof("result") for answer in camera.answers] == ["scene"] * 5
    assert system.most_at_work == 2


async def test_equal_cameras_share_equally() -> None:
    """Sixteen cameras that always have a frame waiting."""
    system = System(seconds=0.002)
    streams = over(system, stream_capacity=3)
    cameras = [Camera(streams, f"c{index:02}-", max_in_flight=1 + index % 4) for index in range(16)]

    async def film(camera: Camera) -> None:
        taking = asyncio.create_task(camera.take_all())
        for sequence in range(300):
            camera.send(sequence)
            await asyncio.sleep(0.001)
        camera.end()
        await taking

    await asyncio.gather(*(film(camera) for camera in cameras))
    scenes = [sum(answer.HasField("scene") for answer in camera.answers) for camera in cameras]
    assert min(scenes) > 5
    assert sum(scenes) ** 2 / (len(scenes) * sum(n * n for n in scenes)) >= 0.95
    assert system.most_at_work == 3


async def test_the_urgent_come_first_and_the_model_is_told() -> None:
    system = System()
    streams = over(system, stream_capacity=1)
    cameras = {
        priority: Camera(streams, priority.name.lower(), priority=int(priority))
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH)
    }
    busy = Camera(streams, "busy")
    taking = [await begin(busy, 1)] + [await begin(camera, 1) for camera in cameras.values()]
    for name in ("busy1", "high1", "normal1", "low1"):
        assert list(system.at_work) == [name]
        await system.finish(name)
    assert system.priorities["high1"] is Priority.HIGH
    assert system.priorities["low1"] is Priority.LOW
    assert system.priorities["busy1"] is Priority.NORMAL
    for camera in (busy, *cameras.values()):
        camera.end()
    await asyncio.gather(*taking)


async def test_a_caller_that_goes_away_gives_all_back() -> None:
    system = System()
    streams = over(system, stream_capacity=1, max_streams=1)
    camera = Camera(streams)
    before = REGISTRY.get_sample_value("perception_stream_frames_abandoned_total") or 0.0
    camera.send(1)
    taking = asyncio.create_task(camera.take())
    await settle()
    camera.send(2)
    await settle()
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await camera.leave()
    assert system.cancelled == ["gate1"]
    assert REGISTRY.get_sample_value("perception_stream_frames_abandoned_total") == before + 2
    assert not system.at_work
    again = Camera(streams)
    taking_again = await begin(again, 3)
    await system.finish("gate3")
    again.end()
    assert await taking_again == [(3, "scene")]


async def test_a_caller_that_goes_away_at_any_moment_gives_all_back() -> None:
    system = System(seconds=0.001)
    streams = over(system, stream_capacity=1)
    for moment in range(30):
        cameras = [Camera(streams, f"c{index}-", max_in_flight=2) for index in range(3)]
        taking = [asyncio.create_task(camera.take_all()) for camera in cameras]
        for sequence in range(4):
            for camera in cameras:
                camera.send(sequence)
        for _ in range(moment):
            await asyncio.sleep(0)
        for task in taking:
            task.cancel()
        await asyncio.gather(*taking, return_exceptions=True)
        for camera in cameras:
            await camera.leave()
    last = Camera(streams)
    last.send(1)
    last.end()
    assert await asyncio.wait_for(last.take_all(), 5) == [(1, "scene")]


async def test_a_gateway_that_drains_answers_what_it_has_read() -> None:
    system = System()
    streams = over(system)
    camera, silent = Camera(streams, max_in_flight=1), Camera(streams, "silent")
    taking, never = await begin(camera, 1, 2, 3), asyncio.create_task(silent.take_all())
    await settle()
    streams.stop()
    await settle()
    camera.send(4)  # not read any more
    await system.finish("gate1")
    await system.finish("gate3")
    with pytest.raises(Stopping):
        await taking
    assert [answer.sequence for answer in camera.answers] == [1, 2, 3]
    with pytest.raises(Stopping):
        await never
    late = Camera(streams, "late")
    late.send(1)
    with pytest.raises(Stopping):
        await late.take()


async def test_a_stream_that_has_lasted_long_is_handed_over() -> None:
    """Before gRPC would cut it off; what it has read is answered."""
    system = System()
    camera = Camera(over(system, max_connection_age_grace_seconds=0.2))
    taking = await begin(camera, 1, 2)
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(0.2)
    camera.send(3)  # not read any more
    assert not taking.done()
    await system.finish("gate1")
    await system.finish("gate2")
    with pytest.raises(Stopping, match="lasted long enough"):
        await taking
    assert asyncio.get_running_loop().time() - began < 10
    assert [answer.sequence for answer in camera.answers] == [1, 2]


async def test_a_stream_without_a_frame_is_handed_over_as_well() -> None:
    camera = Camera(over(System(), max_connection_age_grace_seconds=0.1))
    with pytest.raises(Stopping, match="lasted long enough"):
        await asyncio.wait_for(camera.take_all(), 10)


async def test_a_stream_may_last_for_ever() -> None:
    camera = Camera(over(System(seconds=0.0), max_connection_age_grace_seconds=math.inf))
    taking = await begin(camera, 1, 2)
    camera.end()
    assert await taking == [(1, "scene"), (2, "scene")]


async def test_a_stream_whose_camera_has_ended_is_not_handed_over() -> None:
    system = System()
    streams = over(system)
    camera = Camera(streams)
    taking = await begin(camera, 1)
    camera.end()
    await settle()
    streams.stop()
    await system.finish("gate1")
    assert await taking == [(1, "scene")]


async def test_more_streams_than_allowed_are_refused() -> None:
    streams = over(System(), max_streams=1)
    first, second = Camera(streams, "first"), Camera(streams, "second")
    taking = asyncio.create_task(first.take_all())
    await settle()
    with pytest.raises(Overloaded, match="1 camera streams are open already"):
        await second.take_all()
    first.end()
    assert await taking == []


async def test_wrong_options_end_the_stream() -> None:
    camera = Camera(over(System()), "no spaces")
    camera.send(1)
    with pytest.raises(InvalidInput) as raised:
        await camera.take()
    assert raised.value.field == "options.camera"


async def test_a_stream_that_keeps_missing_its_deadline_gives_up_attributes_then_masks_and_gets_them_back() -> None:
    system = System(seconds=0.0)
    late = perception_pb2.PerceiveResponse()
    late.task_status.add(task=task_pb2.TASK_CLASSIFICATION, state=task_pb2.TASK_STATE_DEADLINE_EXCEEDED)
    system.outcome = lambda name: late
    camera = Camera(over(system), max_in_flight=1)
    sequence = 0

    async def film(frames: int) -> list[int]:
        nonlocal sequence
        for _ in range(frames):
            sequence += 1
            camera.send(sequence)
            await camera.take()
        return [answer.degradation for answer in camera.answers[-frames:]]

    assert await film(5) == [0] * 5
    assert await film(5) == [perception_pb2.DEGRADATION_NO_ATTRIBUTES] * 5
    assert await film(1) == [perception_pb2.DEGRADATION_NO_INSTANCE_MASKS]
    gauge = ("perception_stream_degradation", {"camera": "gate"})
    assert REGISTRY.get_sample_value(*gauge) == 2
    assert system.left_out["gate1"] == frozenset()
    assert system.left_out["gate6"] == {task_pb2.TASK_CLASSIFICATION}
    assert system.left_out["gate11"] == {task_pb2.TASK_CLASSIFICATION, task_pb2.TASK_INSTANCE_SEGMENTATION}
    system.outcome = lambda name: scene()
    assert (await film(45))[-1] == 0
    assert REGISTRY.get_sample_value(*gauge) == 0
    await camera.leave()


@pytest.mark.parametrize("frames", [0, 1])
async def test_a_stream_that_brings_no_frame_is_ended_with_what_it_brought_answered(frames: int) -> None:
    system = System(seconds=0.0)
    camera = Camera(over(system, stream_idle_seconds=0.2))
    taking = await begin(camera, *range(1, frames + 1))
    with pytest.raises(StreamIdle, match=r"brought no frame for 0\.2 s"):
        await taking
    assert [what(answer) for answer in camera.answers] == ["scene"] * frames


async def test_a_stream_whose_answers_are_awaited_is_not_idle() -> None:
    """While nothing more is read, the sender cannot bring a frame."""
    system = System()
    camera = Camera(over(system, stream_idle_seconds=0.2, stream_max_unanswered=2), max_in_flight=2)
    taking = await begin(camera, 1, 2)
    await asyncio.sleep(0.5)
    assert not taking.done()
    await system.finish("gate1")
    await system.finish("gate2")
    camera.end()
    assert await taking == [(1, "scene"), (2, "scene")]


async def test_things_keep_their_identity_until_it_is_forgotten() -> None:
    system = System(seconds=0.0)
    streams = over(system)
    system.outcome = lambda name: scene((10, 10, 50, 50), (200, 10, 260, 50))
    camera, other, plain = Camera(streams, track=True), Camera(streams, "other", track=True), Camera(streams, "plain")

    began = time.time() - 1.0

    async def ids(camera: Camera, sequence: int, **fields: Any) -> list[int]:
        camera.send(sequence, age=time.time() - (began + sequence / 10), **fields)
        answer = await camera.take()
        return [thing.track.id for thing in answer.scene.panoptic.segments]

    assert await ids(camera, 1) == [0, 0]  # nobody is named before being seen twice
    assert sorted(await ids(camera, 2)) == [1, 2]
    first = camera.answers[-1]
    track = first.scene.panoptic.segments[0].track
    assert (track.frames, round(track.age_microseconds, -4)) == (2, 100_000)
    assert await ids(camera, 5) == [thing.track.id for thing in first.scene.panoptic.segments]
    # Another stream's ids are its own.
    await ids(other, 1)
    assert sorted(await ids(other, 2)) == [1, 2]
    assert other.answers[0].epoch > camera.answers[0].epoch
    assert await ids(camera, 6, reset_tracks=True) == [0, 0]
    assert sorted(await ids(camera, 7)) == [1, 2]
    epochs = [answer.epoch for answer in camera.answers]
    assert epochs[:3] == [epochs[0]] * 3
    assert epochs[3:] == [epochs[3]] * 2
    assert epochs[3] > other.answers[0].epoch
    await ids(plain, 1)
    await ids(plain, 2)
    assert not any(thing.HasField("track") for thing in plain.answers[-1].scene.panoptic.segments)
    for each in (camera, other, plain):
        await each.leave()


async def test_tracks_of_a_film_move_by_its_own_clock_whatever_its_pace() -> None:
    system = System(seconds=0.0)
    system.outcome = lambda name: scene((10, 10, 50, 50))
    slow = Camera(over(system), track=True)
    for sequence in (1, 2, 3):
        position = duration_pb2.Duration()
        position.FromMilliseconds(1000 * sequence)
        slow.send(sequence, position=position)
        await slow.take()
    tracks = [answer.scene.panoptic.segments[0].track for answer in slow.answers]
    assert [track.id for track in tracks] == [0, 1, 1]
    assert [round(track.age_microseconds, -3) for track in tracks] == [0, 1_000_000, 2_000_000]
    await slow.leave()
