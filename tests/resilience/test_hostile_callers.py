"""Callers that mean no good: others do not notice, and the limits that end them are named."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from typing import Any

import grpc
import grpc.aio
import pytest
from perception.errors import PerceptionError
from perception.v1 import image_pb2, perception_pb2, perception_pb2_grpc

from tests.resilience.conftest import SECONDS, is_long
from tests.resilience.offered import Offered, closed_loop
from tests.support.contract_models import write_model
from tests.support.service import ServiceProcess, eventually
from tests.support.stack import TAXONOMY
from tests.support.threads import in_threads
from tests.support.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3 * SECONDS + 120)]

LOAD_SECONDS = SECONDS / 12 or 1.0
DEADLINE = 5.0
MANY = 1000
METHOD = "/perception.v1.PerceptionService/Perceive"
SETTINGS = {"STREAM_IDLE_SECONDS": 2, "RECEIVE_SECONDS": 2}

Ends = Counter[tuple[str, str]]
"""How calls ended: code and reason."""
Hostile = Callable[[str], AbstractAsyncContextManager[Ends]]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """Before a detection service that answers at once."""
    directory = tmp_path_factory.mktemp("hostile")
    write_model(directory / "repository", "detection")
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    with ExitStack() as stack:
        detection = ServiceProcess(
            "detection", directory, ENGINE="onnxruntime", MODEL_REPOSITORY=directory / "repository"
        )
        stack.enter_context(detection).wait_until_ready()
        told = {"DETECTION_URL": detection.address, "TAXONOMY": taxonomy, **SETTINGS}
        yield stack.enter_context(ServiceProcess("gateway", directory, **told)).wait_until_ready()


def reason(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    told = PerceptionError.from_rpc_error(error)
    return told.code.name, told.reason


@asynccontextmanager
async def calls_at_once(calls: list[Any], read: Callable[[Any], Any]) -> AsyncIterator[Ends]:
    """Open calls, whose ends are counted until the block is left."""
    ends: Ends = Counter()

    async def follow(call: Any) -> None:
        try:
            await read(call)
        except grpc.aio.AioRpcError as error:
            ends[reason(error)] += 1

    following = [asyncio.create_task(follow(call)) for call in calls]
    try:
        yield ends
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*following, return_exceptions=True)


@asynccontextmanager
async def thousand_streams(address: str) -> AsyncIterator[Ends]:
    """Opened all at once, and no frame is ever sent."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = perception_pb2_grpc.PerceptionServiceStub(channel)
        async with calls_at_once([stub.PerceiveStream() for _ in range(MANY)], lambda call: call.read()) as ends:
            yield ends


@asynccontextmanager
async def thousand_unsent_requests(address: str) -> AsyncIterator[Ends]:
    """Requests that are begun, and whose pictures never come."""
    async with grpc.aio.insecure_channel(address) as channel:
        method = channel.stream_unary(
            METHOD, perception_pb2.PerceiveRequest.SerializeToString, perception_pb2.PerceiveResponse.FromString
        )

        async def answer(call: Any) -> None:
            await call

        async with calls_at_once([method() for _ in range(MANY)], answer) as ends:
            yield ends


@asynccontextmanager
async def a_byte_a_second(address: str) -> AsyncIterator[Ends]:
    """A hundred connections that take their time over HTTP/2's first words."""
    host, port = address.split(":")
    connections = [socket.create_connection((host, int(port))) for _ in range(100)]

    def send(over: threading.Event) -> None:
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n":
            for connection in connections:
                with suppress(OSError):
                    connection.send(bytes([byte]))
            if over.wait(1.0):
                return

    try:
        with in_threads(send):
            yield Counter()
    finally:
        for connection in connections:
            connection.close()


@asynccontextmanager
async def slow_reader(address: str) -> AsyncIterator[Ends]:
    """Sends frames as fast as it can, and reads no answer, until it is held up."""
    raw = image_pb2.RawImage(format=image_pb2.PIXEL_FORMAT_RGB8, height=256, width=256, data=bytes(256 * 256 * 3))
    async with grpc.aio.insecure_channel(address, [("grpc.http2.bdp_probe", 0)]) as channel:
        call = perception_pb2_grpc.PerceptionServiceStub(channel).PerceiveStream()

        sent = 0

        async def flood() -> None:
            nonlocal sent
            options = perception_pb2.StreamOptions(camera="flood")
            for sequence in range(1, 100_000):
                frame = perception_pb2.PerceiveRequest(image=image_pb2.Image(raw=raw))
                await call.write(
                    perception_pb2.PerceiveStreamRequest(
                        sequence=sequence, frame=frame, options=options if sequence == 1 else None
                    )
                )
                sent = sequence

        async def held_up() -> bool:
            before = sent
            await asyncio.sleep(0.5)
            return sent == before > 0

        flooding = asyncio.create_task(flood())
        try:
            await until(held_up, 60)
            yield Counter()
            assert not flooding.done(), "the sender is held up, and not refused"
        finally:
            flooding.cancel()
            call.cancel()
            await asyncio.gather(flooding, return_exceptions=True)


def percentile(offered: Offered, part: float) -> float:
    seconds = sorted(one.seconds for one in offered.ended)
    return seconds[int(part * (len(seconds) - 1))]


def in_words(milliseconds: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in milliseconds)


def named_all(ends: Ends, names: set[tuple[str, str]]) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        return names <= set(ends)

    return holds


HOSTILE: list[tuple[Hostile, set[tuple[str, str]]]] = [
    (thousand_streams, {("RESOURCE_EXHAUSTED", "OVERLOADED"), ("DEADLINE_EXCEEDED", "STREAM_IDLE")}),
    (thousand_unsent_requests, {("RESOURCE_EXHAUSTED", "OVERLOADED"), ("DEADLINE_EXCEEDED", "REQUEST_INCOMPLETE")}),
    (a_byte_a_second, set()),
    (slow_reader, set()),
]


@pytest.mark.parametrize(("hostile", "named"), HOSTILE, ids=lambda value: getattr(value, "__name__", ""))
async def test_others_do_not_notice(gateway: ServiceProcess, hostile: Hostile, named: set[tuple[str, str]]) -> None:
    before = await closed_loop(gateway.address, 2, LOAD_SECONDS, DEADLINE)
    memory = gateway.resident_megabytes()
    async with hostile(gateway.address) as ends:
        await asyncio.sleep(0.5)
        beside = await closed_loop(gateway.address, 2, LOAD_SECONDS, DEADLINE)
        grown = gateway.resident_megabytes() - memory
        await until(named_all(ends, named), 30)
    after = await closed_loop(gateway.address, 2, LOAD_SECONDS, DEADLINE)
    p50, p99 = ([percentile(load, part) * 1000 for load in (before, beside, after)] for part in (0.5, 0.99))
    ratio = p99[1] / max(p99[0], p99[2])
    words = (
        f"\n{hostile.__name__}: others before, beside and after: p50 {in_words(p50)} ms, p99 {in_words(p99)} ms "
        f"({ratio:.2f} times); gateway grew by {grown:.1f} MB; ends {dict(ends)}"
    )
    print(words)
    assert beside.results == {"whole": len(beside.ended)}, words
    assert grown < 200, words
    if is_long():
        assert ratio < 1.5, words
    eventually(lambda: "\nperception_streams 0.0" in gateway.metrics())


async def test_a_stream_that_is_never_closed_makes_room(gateway: ServiceProcess) -> None:
    """Somebody takes all places for streams and leaves them open; a camera gets in after the idle time."""
    async with thousand_streams(gateway.address), grpc.aio.insecure_channel(gateway.address) as channel:
        stub = perception_pb2_grpc.PerceptionServiceStub(channel)
        frame = perception_pb2.PerceiveStreamRequest(sequence=1, options=perception_pb2.StreamOptions(camera="gate"))

        async def got_in() -> bool:
            call = stub.PerceiveStream()
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await call.write(frame)
                answer = await call.read()
                return bool(answer is not grpc.aio.EOF and answer.sequence == 1)
            return False

        await until(got_in, 60)
