"""Traces through the whole system of real processes, as a collector gets them."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from perception import InvalidArgument, PerceptionClient
from perception.convert import image_to_message
from perception.v1 import perception_pb2, perception_pb2_grpc

from tests.support.camera_agent import AgentProcess
from tests.support.collector import Collector, Span
from tests.support.contract_models import picture
from tests.support.service import ServiceProcess
from tests.support.service import eventually as until
from tests.support.stack import TAXONOMY, Stack, eventually

pytestmark = pytest.mark.integration

PERCEIVE = "perception.v1.PerceptionService/Perceive"
STREAM = "perception.v1.PerceptionService/PerceiveStream"
CALLS = {
    "detection": "perception.v1.DetectionService/Detect",
    "instance_segmentation": "perception.v1.InstanceSegmentationService/SegmentInstances",
    "semantic_segmentation": "perception.v1.SemanticSegmentationService/SegmentSemantics",
    "classification": "perception.v1.ClassificationService/Classify",
}
MODEL_INFER = "inference.GRPCInferenceService/ModelInfer"
BATCHES = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def stack(
    triton_environment: Path,
    contract_repository: Path,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("stack")
    taxonomy = directory / "contract.yaml"
    taxonomy.write_text(TAXONOMY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        patch.setenv("TRITON_TRACES_URL", collector.http_url)
        patch.setenv("LOG_LEVEL", "DEBUG")
        for name, value in BATCHES.items():
            patch.setenv(name, value)
        with Stack(contract_repository, str(taxonomy), "triton", directory) as running:
            yield running


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[PerceptionClient]:
    with PerceptionClient(stack.address) as connected:
        connected.perceive(picture())
        yield connected


@pytest.fixture
def stub(stack: Stack) -> Iterator[perception_pb2_grpc.PerceptionServiceStub]:
    with grpc.insecure_channel(stack.address) as channel:
        yield perception_pb2_grpc.PerceptionServiceStub(channel)


def logged(stack: Stack, name: str, trace_id: str) -> list[str]:
    """What a process logged for a trace."""
    lines = stack.supervisor._log(name).read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    return [record["message"] for record in records if record["trace_id"] == trace_id]


Edges = set[tuple[str, str, str]]


def parents(spans: list[Span]) -> Edges:
    """Each span's service and name, and what it is below: the parent's service and name, empty for what is not ours."""
    by_id = {span.span_id: span for span in spans}
    return {
        (span.service, span.name, f"{parent.service} {parent.name}" if parent else "")
        for span in spans
        for parent in [by_id.get(span.parent_id)]
    }


def perceived_below(method: str) -> Edges:
    """What perceiving a frame adds to a trace below the gateway's span of that name, but for Triton's part."""
    expected = {("gateway", stage, f"gateway {method}") for stage in ("decode", "fuse", "encode")}
    for task, call in CALLS.items():
        server = f"{task} {call}"
        expected |= {("gateway", call, f"gateway {method}"), (task, call, f"gateway {call}")}
        expected |= {(task, stage, server) for stage in ("preprocess", "inference", "postprocess")}
        expected |= {(task, MODEL_INFER, f"{task} inference")}
    return expected


TRITONS: Edges = {
    edge
    for task in CALLS
    for edge in (
        ("triton", "InferRequest", f"{task} {MODEL_INFER}"),
        ("triton", task, "triton InferRequest"),
        ("triton", "compute", f"triton {task}"),
    )
}


def has_all_of(expected: Edges) -> Callable[[list[Span]], bool]:
    return lambda spans: parents(spans) >= expected


def assert_is(spans: list[Span], expected: Edges) -> None:
    """Each of them once. Triton, which overlooks a caller now and then (docs/monitoring.md), in its place or not."""
    ours = [span for span in spans if span.service != "triton"]
    assert parents(ours) == expected
    assert len(ours) == len(expected)
    assert parents(spans) - expected <= TRITONS


def test_one_request_is_one_trace_from_the_caller_to_triton(
    client: PerceptionClient, collector: Collector, stack: Stack
) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("caller")
    with tracer.start_as_current_span("a frame of mine") as own:
        scene = client.perceive(picture())
    caller = own.get_span_context()
    assert scene.trace_id == f"{caller.trace_id:032x}"

    expected = {("gateway", PERCEIVE, "")} | perceived_below(PERCEIVE)
    spans = collector.trace(scene.trace_id, has_all_of(expected))
    assert_is(spans, expected)
    (server,) = (span for span in spans if (span.service, span.name) == ("gateway", PERCEIVE))
    assert (server.parent_id, server.kind) == (f"{caller.span_id:016x}", "server")
    assert server.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": PERCEIVE,
        "rpc.response.status_code": "OK",
    }
    assert server.resource["service.namespace"] == "perception"
    assert server.resource["deployment.environment.name"] == "test"
    (call,) = (span for span in spans if (span.service, span.name) == ("gateway", CALLS["detection"]))
    assert call.kind == "client"
    assert call.attributes["perception.task_state"] == "OK"
    assert 0 < call.attributes["perception.budget_seconds"] < 30
    # Parts lie within the whole.
    inside = [span for span in spans if span.service != "triton"]
    assert all(server.begun <= span.begun <= span.ended <= server.ended for span in inside)
    assert not any(span.is_error for span in spans)
    for service in ("gateway", *CALLS):
        assert "answered" in logged(stack, service, scene.trace_id)


def test_traces_go_as_far_as_triton(client: PerceptionClient, collector: Collector) -> None:
    expected = {("gateway", PERCEIVE, "")} | perceived_below(PERCEIVE)
    traces = {client.perceive(picture()).trace_id for _ in range(20)}

    def complete() -> set[str]:
        by_trace = {trace: [span for span in list(collector.spans) if span.trace_id == trace] for trace in traces}
        return {trace for trace, spans in by_trace.items() if parents(spans) == expected | TRITONS}

    until(lambda: len(complete()) >= 10)
    (trace, *_) = complete()
    spans = {span.name: span for span in collector.spans if (span.trace_id, span.service) == (trace, "triton")}
    assert "QUEUE_START" in spans["detection"].events
    assert "COMPUTE_INPUT_END" in spans["compute"].events


def test_every_frame_of_a_stream_is_a_trace(client: PerceptionClient, collector: Collector, stack: Stack) -> None:
    pictures = [picture(), b"no picture", picture(), picture()]

    def frames() -> Iterator[object]:
        for one in pictures:
            time.sleep(0.5)  # so that none supersedes the one before
            yield one

    answers = list(client.stream(frames(), camera="gate", track=True))
    assert len({answer.trace_id for answer in answers}) == len(pictures)
    good, bad = answers[3], answers[1]
    assert good.scene is not None
    assert good.scene.trace_id == good.trace_id

    expected = {("gateway", STREAM, ""), ("gateway", "track", f"gateway {STREAM}")} | perceived_below(STREAM)
    spans = collector.trace(good.trace_id, has_all_of(expected))
    assert_is(spans, expected)
    (frame,) = (span for span in spans if (span.service, span.name) == ("gateway", STREAM))
    assert frame.attributes == {"perception.camera": "gate", "perception.sequence": 4, "perception.result": "scene"}
    assert frame.events == ("put to work",)
    assert (frame.parent_id, frame.links) == ("", ())

    below = collector.trace(bad.trace_id, lambda spans: any(span.name == STREAM for span in spans))
    (failed,) = (span for span in below if span.name == STREAM)
    assert bad.error is not None
    assert failed.attributes["error.type"] == bad.error.code == "INVALID_ARGUMENT"
    assert failed.attributes["perception.result"] == "error"


def test_a_stream_of_a_caller_who_traces(client: PerceptionClient, collector: Collector) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("caller")
    own = []

    def frames() -> Iterator[object]:
        for number in range(2):
            with tracer.start_as_current_span(f"frame {number}") as span:
                own.append(f"{span.get_span_context().trace_id:032x}")
                yield picture()
                time.sleep(0.5)

    answers = list(client.stream(frames(), camera="gate"))
    assert [answer.trace_id for answer in answers] == own
    assert own[0] != own[1]


def test_frames_of_a_stream_refer_to_the_span_of_the_call(
    stub: perception_pb2_grpc.PerceptionServiceStub, collector: Collector
) -> None:
    # A caller that says of the call alone where it belongs: its endless stream is not one endless trace.
    request = perception_pb2.PerceiveStreamRequest(
        sequence=1,
        options={"camera": "gate"},
        frame={"image": image_to_message(picture())},
        traceparent="garbage",
    )
    (answer,) = stub.PerceiveStream(iter([request]), timeout=20, metadata=(("traceparent", CALLER),))
    (frame,) = (
        span
        for span in collector.trace(answer.trace_id, lambda spans: any(one.name == STREAM for one in spans))
        if span.name == STREAM
    )
    assert (frame.parent_id, frame.links) == ("", (CALLER.split("-")[2],))


def test_frames_of_a_stream_that_breaks_off_are_in_traces_as_well(
    stub: perception_pb2_grpc.PerceptionServiceStub, collector: Collector
) -> None:
    image = image_to_message(picture())
    requests = [
        perception_pb2.PerceiveStreamRequest(sequence=number, frame={"image": image}) for number in range(1, 41)
    ]
    requests[0].options.camera = "broken"
    call = stub.PerceiveStream(iter(requests), timeout=20)
    next(call)
    call.cancel()

    def frames() -> list[Span]:
        return [span for span in list(collector.spans) if span.attributes.get("perception.camera") == "broken"]

    until(lambda: any(span.attributes.get("error.type") == "CANCELLED" for span in frames()))
    results = {span.attributes.get("perception.result", span.attributes.get("error.type")) for span in frames()}
    assert results == {"scene", "superseded", "CANCELLED"}
    sequences = [span.attributes["perception.sequence"] for span in frames()]
    assert len(sequences) == len(set(sequences))


def test_a_camera_begins_the_traces_of_its_frames(collector: Collector, stack: Stack, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR))
    lines = tmp_path / "answers.jsonl"
    gate = {"name": "gate", "source": str(tmp_path), "sinks": [{"kind": "jsonl", "path": str(lines)}]}
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, **BATCHES}
    agent = AgentProcess(tmp_path, stack.address, [gate], **environment)
    try:
        agent.process.wait(60)
    finally:
        agent.end()
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(records) == 3
    expected = {("camera", "frame", ""), ("gateway", STREAM, "camera frame")}
    expected |= {("gateway", "track", f"gateway {STREAM}")} | perceived_below(STREAM)
    for record in records:
        spans = collector.trace(record["trace_id"], has_all_of(expected))
        assert_is(spans, expected)
        (frame,) = (span for span in spans if span.service == "camera")
        assert (frame.kind, frame.attributes["perception.result"]) == ("client", "scene")
        assert all(frame.begun <= span.begun for span in spans)


def test_a_picture_on_the_page_begins_a_trace(collector: Collector, stack: Stack, tmp_path: Path) -> None:
    body = cv2.imencode(".png", picture())[1].tobytes()
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "GATEWAY_URL": stack.address, **BATCHES}
    with ServiceProcess("viewer", tmp_path, **settings) as viewer:
        request = urllib.request.Request(f"http://{viewer.address}/perceive", body, {"traceparent": CALLER})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        expected = {
            ("viewer", "POST /perceive", ""),
            ("viewer", PERCEIVE, "viewer POST /perceive"),
            ("gateway", PERCEIVE, f"viewer {PERCEIVE}"),
        }
        spans = collector.trace(CALLER.split("-")[1], has_all_of(expected))
    (post,) = (span for span in spans if span.name == "POST /perceive")
    assert post.attributes["http.response.status_code"] == 200


def test_a_task_that_fails_is_an_error_in_the_trace(
    client: PerceptionClient, collector: Collector, stack: Stack
) -> None:
    stack.kill("semantic_segmentation")
    try:
        scene = client.perceive(picture())
    finally:
        stack.spawn("semantic_segmentation")
    assert scene.task_status["semantic_segmentation"].state == "FAILED"
    call = CALLS["semantic_segmentation"]
    spans = collector.trace(scene.trace_id, has_all_of({("gateway", call, f"gateway {PERCEIVE}")}))
    (failed,) = (span for span in spans if span.name == call)
    assert (failed.is_error, failed.message) == (True, scene.task_status["semantic_segmentation"].reason)
    assert failed.attributes["error.type"] == "UNAVAILABLE"
    assert failed.attributes["perception.task_state"] == "FAILED"
    # The frame has its scene all the same.
    collector.trace(scene.trace_id, lambda spans: any(span.name == PERCEIVE and not span.is_error for span in spans))
    eventually(lambda: client.perceive(picture()), lambda found: found.task_status["semantic_segmentation"].ok)


def test_a_request_that_fails_tells_its_trace(client: PerceptionClient, collector: Collector, stack: Stack) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client.perceive(b"no picture")
    spans = {span.name: span for span in collector.trace(caught.value.trace_id, lambda spans: len(spans) == 2)}
    assert spans.keys() == {"decode", PERCEIVE}
    assert spans[PERCEIVE].attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert not spans[PERCEIVE].is_error, "the caller's fault is no error of the server's"
    assert str(caught.value) in logged(stack, "gateway", caught.value.trace_id)


def test_the_trailing_metadata_tell_the_trace(stub: perception_pb2_grpc.PerceptionServiceStub) -> None:
    request = perception_pb2.PerceiveRequest(image=image_to_message(picture()))
    answer, call = stub.Perceive.with_call(request, timeout=20)
    assert dict(call.trailing_metadata())["x-trace-id"] == answer.trace_id != ""


@pytest.mark.parametrize(
    "metadata",
    [
        [("traceparent", "")],
        [("traceparent", "garbage")],
        [("traceparent", CALLER.upper())],
        [("traceparent", f"{CALLER}-more")],
        [("traceparent", CALLER.replace("00-", "ff-", 1))],
        [("traceparent", f"00-{'0' * 32}-b7ad6b7169203331-01")],
        [("traceparent", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01")],
        [("traceparent", "00-" + "a" * 4000)],
        [("traceparent-bin", b"\xff" * 55)],
        [("tracestate", "=,=,=" * 500)],
    ],
    ids=["empty", "garbage", "capitals", "longer", "version", "no trace", "no span", "long", "bytes", "state"],
)
def test_metadata_that_name_no_caller_are_as_good_as_none(
    stub: perception_pb2_grpc.PerceptionServiceStub, metadata: list[tuple[str, str | bytes]]
) -> None:
    request = perception_pb2.PerceiveRequest(image=image_to_message(picture()))
    answer = stub.Perceive(request, timeout=20, metadata=tuple(metadata))
    assert len(answer.trace_id) == 32
    assert answer.trace_id != CALLER.split("-")[1]


def test_what_the_caller_does_not_sample_is_nowhere(
    stub: perception_pb2_grpc.PerceptionServiceStub, collector: Collector, stack: Stack
) -> None:
    trace_id = "0bf7651916cd43dd8448eb211c80319c"
    request = perception_pb2.PerceiveRequest(image=image_to_message(picture()))
    metadata = (("traceparent", f"00-{trace_id}-b7ad6b7169203331-00"), ("x-request-id", "quiet"))
    answer, call = stub.Perceive.with_call(request, timeout=20, metadata=metadata)
    assert answer.trace_id == ""
    assert "x-trace-id" not in dict(call.trailing_metadata())
    # What came later is here, Triton's part too, and nothing of it.
    later = [stub.Perceive(request, timeout=20).trace_id for _ in range(5)]
    until(lambda: any(span.trace_id in later and span.service == "triton" for span in list(collector.spans)))
    assert not [span for span in collector.spans if span.trace_id == trace_id]
    lines = [json.loads(line) for line in stack.supervisor._log("detection").read_text().splitlines()]
    assert {line["trace_id"] for line in lines if line["request_id"] == "quiet"} == {""}


def test_looking_after_the_models_is_in_no_trace(client: PerceptionClient, collector: Collector) -> None:
    begun = time.time_ns()
    client.describe()
    time.sleep(2)  # health, readiness, descriptions
    later = client.perceive(picture()).trace_id
    collector.trace(later, has_all_of({("gateway", PERCEIVE, "")}))
    assert {span.trace_id for span in list(collector.spans) if span.begun >= begun} == {later}
