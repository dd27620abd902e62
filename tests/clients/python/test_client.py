"""Both clients against a real gRPC server."""

from __future__ import annotations

import doctest
import inspect
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import perception
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from perception import (
    AsyncPerceptionClient,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    PerceptionClient,
    PerceptionError,
    PermissionDenied,
    ResourceExhausted,
    Scene,
    Unauthenticated,
    Unavailable,
)
from perception.v1 import geometry_pb2, image_pb2, task_pb2

from tests.clients.python.server import Behaviour, Gateway, dawdle, serving

Perceive = Callable[..., Awaitable[Scene]]

GRPC_ROUNDING_SECONDS = 0.2


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with serving() as running:
        yield running


@pytest.fixture(params=["threads", "asyncio"])
def perceive(request: pytest.FixtureRequest) -> Perceive:
    """One call of either client: `await perceive(address, image, **options)`."""

    async def with_threads(address: str, *arguments: Any, token: str | None = None, **options: Any) -> Scene:
        with PerceptionClient(address, token=token) as client:
            return client.perceive(*arguments, **options)

    async def with_asyncio(address: str, *arguments: Any, token: str | None = None, **options: Any) -> Scene:
        async with AsyncPerceptionClient(address, token=token) as client:
            return await client.perceive(*arguments, **options)

    return with_threads if request.param == "threads" else with_asyncio


def test_public_names() -> None:
    assert perception.__all__ == [
        "TLS",
        "AsyncPerceptionClient",
        "Attribute",
        "ClassMap",
        "DeadlineExceeded",
        "Detections",
        "Frame",
        "FrameDropped",
        "FrameError",
        "Instances",
        "InternalError",
        "InvalidArgument",
        "Model",
        "Panoptic",
        "PerceptionClient",
        "PerceptionError",
        "PermissionDenied",
        "ResourceExhausted",
        "Scene",
        "Segment",
        "StreamAnswer",
        "TaskStatus",
        "Track",
        "Unauthenticated",
        "Unavailable",
    ]
    assert all(hasattr(perception, name) for name in perception.__all__)


def test_both_clients_offer_the_same() -> None:
    for name in ("__init__", "perceive", "describe", "close"):
        threads, asynchronous = getattr(PerceptionClient, name), getattr(AsyncPerceptionClient, name)
        assert inspect.signature(threads) == inspect.signature(asynchronous), name
    # Frames come from what suits each of them.
    theirs, ours = (inspect.signature(kind.stream).parameters for kind in (PerceptionClient, AsyncPerceptionClient))
    assert list(theirs) == list(ours)
    assert [theirs[name] for name in theirs if name != "frames"] == [ours[name] for name in ours if name != "frames"]


def test_the_usage_in_the_package_docstring_runs(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = doctest.DocTestParser().get_examples(perception.__doc__ or "")[1:]
    monkeypatch.chdir(tmp_path)
    Path("frame.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((6, 8, 3), np.uint8))[1].tobytes())
    exec(example.source.replace("localhost:50050", gateway.address), {"PerceptionClient": PerceptionClient})
    assert Path("overlay.png").read_bytes().startswith(b"\x89PNG")
    assert gateway.request.image.encoded == Path("frame.jpg").read_bytes()


async def test_a_call_says_what_it_was_told(gateway: Gateway, perceive: Perceive) -> None:
    scene = await perceive(
        gateway.address,
        b"a picture",
        tasks=["detection", "semantic_segmentation"],
        score_threshold=0.0,
        resolution="model",
        timeout=7.0,
        request_id="frame-9",
        token="secret",
    )
    assert scene.request_id == "frame-9"
    assert scene.panoptic.segments[0].category == "car"
    request = gateway.request
    assert request.image.encoded == b"a picture"
    assert list(request.tasks) == [task_pb2.TASK_DETECTION, task_pb2.TASK_SEMANTIC_SEGMENTATION]
    # Nought is a threshold, not the lack of one.
    assert request.HasField("score_threshold")
    assert request.score_threshold == 0.0
    assert request.resolution == geometry_pb2.RESOLUTION_MODEL
    assert request.mask_format == geometry_pb2.MASK_FORMAT_BOX
    assert gateway.metadata["x-request-id"] == "frame-9"
    assert gateway.metadata["authorization"] == "Bearer secret"
    # gRPC rounds up the deadline that it sends.
    assert 0 < gateway.seconds_left <= 7.0 + GRPC_ROUNDING_SECONDS


async def test_a_call_that_was_told_nothing(gateway: Gateway, perceive: Perceive) -> None:
    first = await perceive(gateway.address, b"a picture")
    assert not gateway.request.tasks
    assert not gateway.request.HasField("score_threshold")
    assert gateway.request.resolution == geometry_pb2.RESOLUTION_FRAME
    assert "authorization" not in gateway.metadata
    assert 20 < gateway.seconds_left <= 30 + GRPC_ROUNDING_SECONDS
    second = await perceive(gateway.address, b"a picture")
    assert first.request_id != second.request_id


async def test_every_kind_of_picture_is_sent_and_drawn_on(gateway: Gateway, perceive: Perceive, tmp_path: Path) -> None:
    pixels = np.full((6, 8, 3), (200, 100, 0), np.uint8)
    data = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    path = tmp_path / "frame.png"
    path.write_bytes(data)
    raw = image_pb2.RawImage(format=image_pb2.PIXEL_FORMAT_RGB8, height=6, width=8, data=pixels.tobytes())
    drawn = []
    for image, sent in (
        (data, image_pb2.Image(encoded=data)),
        (path, image_pb2.Image(encoded=data)),
        (str(path), image_pb2.Image(encoded=data)),
        (pixels, image_pb2.Image(raw=raw)),
    ):
        scene = await perceive(gateway.address, image)
        assert gateway.request.image == sent
        drawn.append(scene.draw())
    assert all((picture == drawn[0]).all() for picture in drawn)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"tasks": ["tracking"]},
            "task 'tracking': expected one of detection, instance_segmentation, semantic_segmentation, classification",
        ),
        ({"tasks": ["unspecified"]}, "task 'unspecified': expected one of"),
        ({"tasks": [""]}, "task '': expected one of"),
        ({"resolution": "half"}, "resolution 'half': expected one of model, frame"),
    ],
)
async def test_a_name_that_does_not_exist_is_not_sent(
    gateway: Gateway, perceive: Perceive, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        await perceive(gateway.address, b"a picture", **options)
    assert not gateway.metadata


def details(*messages: Any) -> list[any_pb2.Any]:
    packed = [any_pb2.Any() for _ in messages]
    for each, message in zip(packed, messages, strict=True):
        each.Pack(message)
    return packed


def refuse(code: int, message: str, *messages: Any) -> Behaviour:
    status = status_pb2.Status(code=code, message=message, details=details(*messages))
    return lambda context: context.abort_with_status(rpc_status.to_status(status))


INFO = error_details_pb2.ErrorInfo


@pytest.mark.parametrize(
    ("behaviour", "kind", "expected"),
    [
        # everything that the API promises, once
        (
            refuse(
                code_pb2.INVALID_ARGUMENT,
                "image.raw.stride: is 3",
                INFO(reason="INVALID_INPUT", domain="perception", metadata={"field": "image.raw.stride"}),
                error_details_pb2.BadRequest(
                    field_violations=[error_details_pb2.BadRequest.FieldViolation(field="image.raw.stride")]
                ),
            ),
            InvalidArgument,
            {"reason": "INVALID_INPUT", "field": "image.raw.stride", "retry_after_seconds": None},
        ),
        # the field stands in ErrorInfo alone
        (
            refuse(
                code_pb2.RESOURCE_EXHAUSTED, "too large", INFO(reason="LIMIT_EXCEEDED", metadata={"field": "image"})
            ),
            ResourceExhausted,
            {"reason": "LIMIT_EXCEEDED", "field": "image", "retry_after_seconds": None},
        ),
        (
            refuse(
                code_pb2.RESOURCE_EXHAUSTED,
                "busy",
                INFO(reason="OVERLOADED"),
                error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2, nanos=500_000_000)),
            ),
            ResourceExhausted,
            {"reason": "OVERLOADED", "field": "", "retry_after_seconds": 2.5},
        ),
        (
            refuse(code_pb2.UNAVAILABLE, "down", INFO(reason="NO_TASK_ANSWERED")),
            Unavailable,
            {"reason": "NO_TASK_ANSWERED"},
        ),
        (
            refuse(code_pb2.DEADLINE_EXCEEDED, "late", INFO(reason="DEADLINE_EXCEEDED")),
            DeadlineExceeded,
            {"reason": "DEADLINE_EXCEEDED"},
        ),
        (refuse(code_pb2.INTERNAL, "internal error"), InternalError, {"reason": "", "field": ""}),
        # codes that have no class of their own
        (refuse(code_pb2.FAILED_PRECONDITION, "contract", INFO(reason="X")), InternalError, {"reason": "X"}),
        (refuse(code_pb2.ABORTED, "again"), InternalError, {}),
        (refuse(code_pb2.UNAUTHENTICATED, "who?"), Unauthenticated, {}),
        (refuse(code_pb2.PERMISSION_DENIED, "not you"), PermissionDenied, {}),
        # a status without details, as gRPC itself or a proxy gives it
        (lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "no route"), Unavailable, {"reason": ""}),
        (lambda context: context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, ""), ResourceExhausted, {"reason": ""}),
    ],
)
async def test_a_status_becomes_an_error(
    gateway: Gateway, perceive: Perceive, behaviour: Behaviour, kind: type[PerceptionError], expected: dict[str, Any]
) -> None:
    gateway.behaviour = behaviour
    with pytest.raises(PerceptionError) as caught:
        await perceive(gateway.address, b"a picture", request_id="frame-9")
    assert type(caught.value) is kind
    assert caught.value.request_id == "frame-9"
    assert str(caught.value)
    for name, value in expected.items():
        assert getattr(caught.value, name) == value, name
    # What gRPC raised is of no use to a caller.
    assert caught.value.__cause__ is None


def _with_trailer(code: grpc.StatusCode, value: bytes) -> Behaviour:
    def behave(context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata((("grpc-status-details-bin", value),))
        context.abort(code, "down")

    return behave


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xff\xff",  # no message at all
        status_pb2.Status(code=code_pb2.INTERNAL, message="down").SerializeToString(),  # of another code
        status_pb2.Status(code=code_pb2.UNAVAILABLE, message="up").SerializeToString(),  # of another message
        # a detail that is none
        status_pb2.Status(
            code=code_pb2.UNAVAILABLE,
            message="down",
            details=[any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")],
        ).SerializeToString(),
        # a detail of a kind that this version does not know
        status_pb2.Status(
            code=code_pb2.UNAVAILABLE, message="down", details=[any_pb2.Any(type_url="example.com/x", value=b"\xff")]
        ).SerializeToString(),
        b"",
    ],
)
async def test_broken_details_leave_the_code(gateway: Gateway, perceive: Perceive, value: bytes) -> None:
    gateway.behaviour = _with_trailer(grpc.StatusCode.UNAVAILABLE, value)
    with pytest.raises(Unavailable, match="down") as caught:
        await perceive(gateway.address, b"a picture")
    assert (caught.value.reason, caught.value.field, caught.value.retry_after_seconds) == ("", "", None)


async def test_nobody_there_is_unavailable(perceive: Perceive) -> None:
    with serving() as gone:
        address = gone.address
    with pytest.raises(Unavailable):
        await perceive(address, b"a picture", timeout=5.0)


@pytest.mark.parametrize(("code", "failures"), [("UNAVAILABLE", 2), ("CANCELLED", 2), ("UNAVAILABLE", 3)])
async def test_what_one_replica_cannot_answer_another_is_asked(
    gateway: Gateway, perceive: Perceive, code: str, failures: int
) -> None:
    """Twice, and with a picture larger than what gRPC keeps for that by itself."""
    calls = 0
    down = refuse(code_pb2.Code.Value(code), "no task answered")

    def down_at_first(context: grpc.ServicerContext) -> None:
        nonlocal calls
        calls += 1
        if calls <= failures:
            down(context)

    gateway.behaviour = down_at_first
    if failures < 3:
        await perceive(gateway.address, bytes(2**20))
        assert len(gateway.request.image.encoded) == 2**20
    else:
        with pytest.raises(Unavailable, match="no task answered"):
            await perceive(gateway.address, bytes(2**20))
    assert calls == 3


async def test_no_answer_in_time_is_deadline_exceeded(gateway: Gateway, perceive: Perceive) -> None:
    gateway.behaviour = dawdle
    with pytest.raises(DeadlineExceeded) as caught:
        await perceive(gateway.address, b"a picture", timeout=0.2)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_picture_larger_than_any_message_is_resource_exhausted(gateway: Gateway, perceive: Perceive) -> None:
    with pytest.raises(ResourceExhausted, match=r"larger than max \(\d+ vs. \d+\)"):
        await perceive(gateway.address, bytes(65 * 2**20))


def test_describe(gateway: Gateway) -> None:
    with PerceptionClient(gateway.address, token="secret") as client:
        assert client.describe().taxonomy == "demo"
        assert gateway.metadata["authorization"] == "Bearer secret"
        gateway.behaviour = refuse(code_pb2.UNAVAILABLE, "down")
        with pytest.raises(Unavailable):
            client.describe()


async def test_describe_with_asyncio(gateway: Gateway) -> None:
    async with AsyncPerceptionClient(gateway.address) as client:
        assert (await client.describe()).version == "1.2.3"
        gateway.behaviour = refuse(code_pb2.UNAVAILABLE, "down")
        with pytest.raises(Unavailable):
            await client.describe()


def test_threads_share_a_client(gateway: Gateway) -> None:
    with PerceptionClient(gateway.address) as client, ThreadPoolExecutor(8) as pool:
        scenes = list(pool.map(lambda number: client.perceive(b"x", request_id=f"frame-{number}"), range(32)))
    assert [scene.request_id for scene in scenes] == [f"frame-{number}" for number in range(32)]
