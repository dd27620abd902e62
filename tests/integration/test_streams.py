"""Camera streams through real processes: a gateway over a detection service that is as slow as the test wants it.

How fresh the answers are: test_slow_triton.py.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import grpc
import pytest
from perception import (
    AsyncPerceptionClient,
    Frame,
    InvalidArgument,
    PerceptionClient,
    ResourceExhausted,
    StreamAnswer,
    Unavailable,
)
from perception.v1 import image_pb2, perception_pb2, perception_pb2_grpc

from tests.support.cameras import fair_shares, film, frame, jain_index
from tests.support.contract_models import picture, write_model
from tests.support.service import ServiceProcess, eventually
from tests.support.stack import TAXONOMY
from tests.support.triton import free_ports

pytestmark = pytest.mark.integration

StartGateway = Callable[..., ServiceProcess]


@pytest.fixture(scope="module")
def detection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], ServiceProcess]]:
    """A detection service whose model computes so many matrix products besides: `detection(burden)`."""
    directory = tmp_path_factory.mktemp("detection")
    running: dict[int, ServiceProcess] = {}
    with ExitStack() as stack:

        def start(burden: int) -> ServiceProcess:
            if burden not in running:
                repository = directory / str(burden)
                write_model(repository, "detection", burden=burden)
                process = ServiceProcess("detection", directory, ENGINE="onnxruntime", MODEL_REPOSITORY=repository)
                running[burden] = stack.enter_context(process).wait_until_ready()
            return running[burden]

        yield start


@pytest.fixture
def gateway(detection: Callable[[int], ServiceProcess], tmp_path: Path) -> Iterator[StartGateway]:
    """Starts gateways over such a service: `gateway(burden, **settings)`."""
    taxonomy = tmp_path / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    with ExitStack() as stack:

        def start(burden: int = 0, **settings: object) -> ServiceProcess:
            address = detection(burden).address
            process = ServiceProcess("gateway", tmp_path, DETECTION_URL=address, TAXONOMY=taxonomy, **settings)
            return stack.enter_context(process).wait_until_ready()

        yield start


def metric(process: ServiceProcess, name: str) -> float:
    lines = (line for line in process.metrics().splitlines() if line.startswith(f"{name} "))
    return float(next(lines).rpartition(" ")[2])


@pytest.mark.parametrize("rates", [[60, 10] * 8, [60] + [5] * 10], ids=["sixteen", "one_fast_ten_slow"])
async def test_cameras_of_any_pace_get_their_fair_share(gateway: StartGateway, rates: list[int]) -> None:
    """In real time, before a system that cannot serve them all: what each gets is held against max-min fairness."""
    running = gateway(burden=6, MAX_STREAMS=len(rates))
    seconds = 6.0
    scenes = [0] * len(rates)
    sent = [0] * len(rates)

    async def frames(index: int) -> AsyncIterator[Frame]:
        began = asyncio.get_running_loop().time()
        for number in range(int(seconds * rates[index])):
            await asyncio.sleep(began + number / rates[index] - asyncio.get_running_loop().time())
            sent[index] += 1
            yield frame(number)

    async def watch(index: int, client: AsyncPerceptionClient) -> None:
        answers = 0
        async for answer in client.stream(frames(index), camera=f"c{index}", deadline=10.0):
            answers += 1
            scenes[index] += answer.scene is not None
        assert answers == sent[index]

    async with AsyncPerceptionClient(running.address) as client:
        await asyncio.gather(*(watch(index, client) for index in range(len(rates))))
    fair = fair_shares(sent, sum(scenes))
    shares = [got / due for got, due in zip(scenes, fair, strict=True)]
    print(f"scenes of each camera {scenes} of {sent} frames; Jain's index {jain_index(shares):.4f}")
    assert sum(scenes) < 0.8 * sum(sent), "the system is not overloaded: this shows nothing"
    assert jain_index(shares) >= 0.95, scenes
    assert min(shares) > 0.5, scenes


def test_one_stream_too_many_is_refused_and_single_frames_are_not(gateway: StartGateway) -> None:
    running = gateway(MAX_STREAMS=1, MAX_CONCURRENT_REQUESTS=1)
    with PerceptionClient(running.address) as client:
        with pytest.raises(InvalidArgument) as wrong:
            list(client.stream(film(3, 0.02), camera="no spaces"))
        assert wrong.value.field == "options.camera"
        stream = client.stream(film(1000, 0.02), camera="first")
        next(stream)
        with pytest.raises(ResourceExhausted) as raised:
            list(client.stream(film(3, 0.02), camera="second"))
        assert raised.value.reason == "OVERLOADED"
        assert raised.value.retry_after_seconds
        assert client.perceive(picture()).panoptic.segments
        assert next(stream).error is None


def answers_until_it_breaks(
    stream: Iterator[StreamAnswer], after: int, break_it: Callable[[], object]
) -> tuple[list[StreamAnswer], Unavailable]:
    """The answers of a stream that is broken once there are so many, and the error with which it ends."""
    answers: list[StreamAnswer] = []
    try:
        for answer in stream:
            answers.append(answer)
            if len(answers) == after:
                break_it()
    except Unavailable as error:
        assert len(answers) >= after
        return answers, error
    raise AssertionError("it did not break")


def test_a_gateway_killed_in_mid_stream(gateway: StartGateway) -> None:
    """The camera connects again, resumes, repeats some frames to be safe, and gets no second answer for them."""
    port = free_ports(1)[0]
    running = gateway(burden=6, PORT=port)
    with PerceptionClient(f"127.0.0.1:{port}") as client:
        stream = client.stream(film(1000, 0.02), camera="gate", track=True)
        before, _ = answers_until_it_breaks(stream, 20, running.process.kill)
        running.process.wait()
        gateway(burden=6, PORT=port)
        last = before[-1].sequence

        def repeated() -> Iterator[Frame]:
            for sequence, frame in enumerate(film(30, 0.02), last - 4):
                yield Frame(frame.image, sequence=sequence)

        after: list[StreamAnswer] = []

        def connected() -> bool:
            with suppress(Unavailable):
                after.extend(client.stream(repeated(), camera="gate", track=True, resume_after=last))
            return bool(after)

        eventually(connected)
    assert [answer.sequence for answer in before] == list(range(1, last + 1))
    assert [answer.sequence for answer in after] == list(range(last - 4, last + 26))
    again = [answer for answer in after if answer.sequence <= last]
    assert {answer.dropped.reason for answer in again if answer.dropped} == {"already_answered"}
    assert len([answer for answer in again if answer.dropped]) == 5
    assert any(answer.scene for answer in after)
    assert {answer.epoch for answer in after}.isdisjoint(answer.epoch for answer in before)
    assert {answer.epoch for answer in after} == {after[-1].epoch}
    assert after[-1].epoch > before[-1].epoch
    ids = [s.track.id for a in after if a.scene for s in a.scene.panoptic.segments if s.track]
    assert set(ids) == {1}


def test_a_gateway_told_to_stop_answers_what_it_has_read_and_is_gone(gateway: StartGateway) -> None:
    running = gateway(burden=6, DRAIN_SECONDS=20)
    with PerceptionClient(running.address) as client:
        answers, error = answers_until_it_breaks(client.stream(film(1000, 0.02), camera="gate"), 10, running.terminate)
    assert error.reason == "STOPPING"
    assert error.retry_after_seconds
    assert [answer.sequence for answer in answers] == list(range(1, len(answers) + 1))
    assert answers[-1].scene or answers[-1].dropped
    assert running.process.wait(15) == 0
    assert running.records()[-1]["message"] == "stopped"


def test_a_caller_that_does_not_read_is_not_read_from(gateway: StartGateway) -> None:
    """Answers fill what the connection holds; then no more frames are read, and the sender is held up."""
    running = gateway(burden=0, STREAM_MAX_UNANSWERED=32)
    raw = image_pb2.RawImage(format=image_pb2.PIXEL_FORMAT_RGB8, height=256, width=256, data=bytes(256 * 256 * 3))
    sent = 0
    stop = threading.Event()

    def flood() -> Iterator[perception_pb2.PerceiveStreamRequest]:
        nonlocal sent
        options = perception_pb2.StreamOptions(camera="flood")
        while not stop.is_set():
            sent += 1
            frame = perception_pb2.PerceiveRequest(image=image_pb2.Image(raw=raw))
            yield perception_pb2.PerceiveStreamRequest(sequence=sent, frame=frame, options=options)
            options = None

    small_window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096)]
    with grpc.insecure_channel(running.address, small_window) as channel:
        call = perception_pb2_grpc.PerceptionServiceStub(channel).PerceiveStream(flood())
        memory = running.resident_megabytes()
        next(call)
        seen, grown = -1, 0.0
        end = time.monotonic() + 20
        while seen != sent and time.monotonic() < end:
            seen = sent
            time.sleep(1.0)
            grown = max(grown, running.resident_megabytes() - memory)
        assert seen == sent, "the sender is never held up"
        print("sent before it was held up:", sent)
        assert grown < 150
        answered = [call.next().sequence for _ in range(50)]
        assert answered == list(range(2, 52))
        stop.set()
        call.cancel()
    eventually(lambda: metric(running, "perception_streams") == 0)
    eventually(lambda: metric(running, "perception_stream_frames_at_work") == 0)
    assert not [record for record in running.records() if record["level"] == "ERROR"]


def test_streams_come_and_go_and_leave_nothing(gateway: StartGateway) -> None:
    running = gateway()
    descriptors = Path(f"/proc/{running.process.pid}/fd")
    with PerceptionClient(running.address) as client:

        def open_and_leave(index: int) -> None:
            stream = client.stream(film(1000, 0.01), camera=f"c{index}", track=True)
            for answer in itertools.islice(stream, 3):
                assert answer.error is None
            stream.close()  # type: ignore[attr-defined]

        for index in range(5):
            open_and_leave(index)
        memory, files = running.resident_megabytes(), len(list(descriptors.iterdir()))
        for index in range(40):
            open_and_leave(index)
        eventually(lambda: metric(running, "perception_streams") == 0)
        assert len(list(descriptors.iterdir())) < files + 5
        assert running.resident_megabytes() < memory + 20
    assert "perception_stream_degradation{" not in running.metrics()
    assert not [record for record in running.records() if record["level"] == "ERROR"]
