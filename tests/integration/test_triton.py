"""The Triton engine and the local backend against the real server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.runtime.engines import Priority
from services.runtime.engines.onnxruntime import OnnxRuntimeEngine
from services.runtime.engines.triton import TritonEngine
from services.runtime.engines.triton_errors import error_from_status
from services.runtime.errors import (
    ContractViolation,
    DeadlineExceeded,
    InferenceFailed,
    ModelUnavailable,
    Overloaded,
)
from tests.support.contract_models import TASKS, picture, write_model, write_repository
from tests.support.triton import TritonServer
from tests.support.waiting import until

pytestmark = pytest.mark.integration

EngineOf = Callable[[TritonServer, str], TritonEngine]


@pytest.fixture(scope="module")
def server(start_triton: Callable[..., TritonServer], tmp_path_factory: pytest.TempPathFactory) -> TritonServer:
    """A server with a model for every kind of question."""
    # The space stands for any character that a shell would mind.
    repository = write_repository(tmp_path_factory.mktemp("model repository"))
    write_model(repository, "instance_segmentation", "H", "W", name="open_size", batch=False)
    write_model(repository, "detection", name="slow", burden=40, limit=250)
    write_model(repository, "detection", name="slow_single", batch=False, burden=160)
    bare = write_model(repository, "detection", name="bare")
    (bare / "config.pbtxt").write_text('backend: "onnxruntime"\n')
    models = [*TASKS, "open_size", "slow", "slow_single", "bare"]
    return start_triton(repository, models, tmp_path_factory.mktemp("run directory"))


def call(server: TritonServer, method: str, request: Any) -> Any:
    """Calls Triton without our engine."""
    with grpc.insecure_channel(server.url) as channel:
        return getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)(request, timeout=30)


def infer_request(
    model: str, pixels: NDArray[np.uint8], outputs: tuple[str, ...] = (), timeout_microseconds: int = 0
) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="image", datatype="UINT8", shape=pixels.shape)
    request.raw_input_contents.append(pixels.tobytes())
    for name in outputs:
        request.outputs.add(name=name)
    if timeout_microseconds:
        request.parameters["timeout"].int64_param = timeout_microseconds
    return request


def inferences_of(server: TritonServer, model: str) -> int:
    """Pictures that the model has computed."""
    answer = call(server, "ModelStatistics", service_pb2.ModelStatisticsRequest(name=model))
    return int(answer.model_stats[0].inference_count)


def executions_of(server: TritonServer, model: str) -> int:
    """How often the model has run."""
    answer = call(server, "ModelStatistics", service_pb2.ModelStatisticsRequest(name=model))
    return int(answer.model_stats[0].execution_count)


def random_boxes(count: int) -> list[tuple[int, int, int, int]]:
    generator = np.random.default_rng(7)
    return [
        (int(x), int(y), int(x) + 8, int(y) + 6)
        for x, y in zip(generator.integers(0, 56, count), generator.integers(0, 42, count), strict=True)
    ]


@pytest.mark.parametrize("name", [*TASKS, "open_size"])
async def test_triton_and_the_in_process_engine_answer_alike(
    server: TritonServer, engine_of: EngineOf, name: str
) -> None:
    triton, local = engine_of(server, name), OnnxRuntimeEngine(server.repository, name)
    pixels = picture()
    batch = pixels if name == "open_size" else np.stack([pixels, picture(box=(0, 0, 5, 5))])
    assert await triton.describe() == await local.describe()
    theirs = await triton.infer({"image": batch}, 10.0)
    ours = await local.infer({"image": batch}, 10.0)
    await local.close()
    assert theirs.model_version == ours.model_version == "1"
    assert theirs.outputs.keys() == ours.outputs.keys()
    for output in ours.outputs:
        np.testing.assert_array_equal(theirs.outputs[output], ours.outputs[output])
        assert theirs.outputs[output].dtype == ours.outputs[output].dtype


async def test_the_answer_is_right(server: TritonServer, engine_of: EngineOf) -> None:
    answer = await engine_of(server, "detection").infer({"image": picture(box=(10, 8, 40, 30))[None]}, 10.0, "frame-1")
    assert answer.outputs["num_detections"].tolist() == [[1]]
    assert answer.outputs["detection_boxes"][0, 0].tolist() == [10, 8, 40, 30]
    assert answer.outputs["detection_classes"][0, 0] == 1


def test_the_backend_completes_a_configuration_from_the_graph(server: TritonServer) -> None:
    config = call(server, "ModelConfig", service_pb2.ModelConfigRequest(name="bare")).config
    assert config.max_batch_size == 4
    assert config.HasField("dynamic_batching")
    assert [(tensor.name, list(tensor.dims)) for tensor in config.input] == [("image", [48, 64, 3])]
    assert {tensor.name: list(tensor.dims) for tensor in config.output} == {
        "num_detections": [1],
        "detection_boxes": [4, 4],
        "detection_scores": [4],
        "detection_classes": [4],
    }


def test_only_the_requested_outputs_are_answered(server: TritonServer) -> None:
    request = infer_request("detection", picture()[None], outputs=("detection_scores",))
    assert [tensor.name for tensor in call(server, "ModelInfer", request).outputs] == ["detection_scores"]


async def test_concurrent_requests_become_few_executions(server: TritonServer, engine_of: EngineOf) -> None:
    engine, boxes = engine_of(server, "slow"), random_boxes(32)
    inferences, executions = inferences_of(server, "slow"), executions_of(server, "slow")
    answers = await asyncio.gather(*(engine.infer({"image": picture(box=box)[None]}, 60.0) for box in boxes))
    for box, answer in zip(boxes, answers, strict=True):
        assert answer.outputs["detection_boxes"][0, 0].tolist() == list(box)
    assert inferences_of(server, "slow") - inferences == 32
    assert executions_of(server, "slow") - executions <= 16


async def test_a_bad_request_fails_alone_in_its_batch(server: TritonServer, engine_of: EngineOf) -> None:
    engine, boxes = engine_of(server, "slow"), random_boxes(12)
    pictures = [picture(box=box, colour=(255 if index % 6 == 0 else 200, 0, 0)) for index, box in enumerate(boxes)]
    answers = await asyncio.gather(
        *(engine.infer({"image": pixels[None]}, 60.0) for pixels in pictures), return_exceptions=True
    )
    for index, (box, answer) in enumerate(zip(boxes, answers, strict=True)):
        if index % 6 == 0:
            assert isinstance(answer, InferenceFailed)
            assert "Gather" in str(answer)
        else:
            assert not isinstance(answer, BaseException), answer
            assert answer.outputs["detection_boxes"][0, 0].tolist() == list(box)
    assert await engine.ready()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": picture(20, 20)[None]}, r"Expected \[-1,48,64,3\], got \[1,20,20,3\]"),
        ({"image": picture()[None].astype(np.float32)}, "data-type is 'FP32', but model 'detection' expects 'UINT8'"),
        ({"image": np.zeros((9, 48, 64, 3), np.uint8)}, "batch-size must be <= 8"),
        ({"picture": picture()[None]}, "unexpected inference input 'picture'"),
        ({}, r"missing required input\(s\) \['image'\]"),
    ],
    ids=["shape", "datatype", "batch", "name", "none"],
)
async def test_what_the_model_does_not_take_is_refused_readably(
    server: TritonServer, engine_of: EngineOf, inputs: dict[str, NDArray[Any]], message: str
) -> None:
    engine = engine_of(server, "detection")
    with pytest.raises(ContractViolation, match=message) as caught:
        await engine.infer(inputs, 10.0)
    assert "request id" not in str(caught.value)
    assert (await engine.infer({"image": picture()[None]}, 10.0)).outputs["num_detections"][0, 0] == 1


async def test_a_view_that_is_not_contiguous_is_sent_rightly(server: TritonServer, engine_of: EngineOf) -> None:
    mirrored = picture(box=(10, 8, 40, 30))[:, ::-1][None]
    answer = await engine_of(server, "detection").infer({"image": mirrored}, 10.0)
    assert answer.outputs["detection_boxes"][0, 0].tolist() == [24, 8, 54, 30]


async def test_a_deadline_is_kept_and_the_next_request_works(server: TritonServer, engine_of: EngineOf) -> None:
    engine = engine_of(server, "slow")
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await engine.infer({"image": picture()[None]}, 0.03)
    assert time.monotonic() - started < 1.0
    assert (await engine.infer({"image": picture()[None]}, 60.0)).outputs["num_detections"][0, 0] == 1
    with pytest.raises(DeadlineExceeded):
        await engine.infer({"image": picture()[None]}, 0.0)


async def test_triton_gives_up_what_waits_too_long_and_refuses_what_has_no_room(server: TritonServer) -> None:
    """The messages by which the two are told from a server that is gone."""
    async with grpc.aio.insecure_channel(server.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        batch = np.repeat(picture()[None], 8, axis=0)
        requests = [stub.ModelInfer(infer_request("slow", batch)) for _ in range(3)]
        requests += [stub.ModelInfer(infer_request("slow", picture()[None], (), 10_000)) for _ in range(80)]
        answers = await asyncio.gather(*requests, return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    kinds = {type(error_from_status("slow", each.code(), each.details() or "")) for each in failures}
    assert kinds == {DeadlineExceeded, Overloaded}


async def test_requests_that_expire_in_the_queue_are_not_computed(server: TritonServer, engine_of: EngineOf) -> None:
    engine = engine_of(server, "slow")
    before = inferences_of(server, "slow")
    full = {"image": np.repeat(picture()[None], 8, axis=0)}
    batches = asyncio.gather(engine.infer(full, 60.0), engine.infer(full, 60.0))
    await asyncio.sleep(0.05)
    late = [engine.infer({"image": picture()[None]}, 0.02) for _ in range(20)]
    answers = await asyncio.gather(*late, return_exceptions=True)
    await batches
    await engine.infer({"image": picture()[None]}, 60.0)
    assert all(isinstance(answer, DeadlineExceeded) for answer in answers)
    assert inferences_of(server, "slow") - before == 8 + 8 + 1


async def test_a_model_without_a_batch_axis_has_a_queue_with_a_bound_and_deadlines(
    server: TritonServer, engine_of: EngineOf
) -> None:
    engine, before = engine_of(server, "slow_single"), inferences_of(server, "slow_single")
    crowd = [engine.infer({"image": picture()}, 0.3) for _ in range(200)]
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    failures = [type(answer) for answer in answers if isinstance(answer, BaseException)]
    assert set(failures) == {DeadlineExceeded, Overloaded}
    # Those that expired keep their places until the run is over that was under way.
    await until(engine.ready)
    # Those that had an answer, the one at work when the others gave up, and the one that found the model ready.
    assert inferences_of(server, "slow_single") - before <= 200 - len(failures) + 2


async def test_the_urgent_overtake_those_who_wait(server: TritonServer, engine_of: EngineOf) -> None:
    """Twenty-four that can wait, three batches, and then one that cannot."""
    engine, done = engine_of(server, "slow"), []

    async def ask(name: str, priority: Priority) -> None:
        await engine.infer({"image": picture()[None]}, 60.0, name, priority)
        done.append(name)

    low = [asyncio.create_task(ask(f"low {index}", Priority.LOW)) for index in range(24)]
    await asyncio.sleep(0.03)
    await asyncio.gather(ask("high", Priority.HIGH), *low)
    assert done.index("high") < 20


async def test_unloading_and_loading(server: TritonServer, engine_of: EngineOf) -> None:
    engine = engine_of(server, "classification")
    assert await engine.ready()
    call(server, "RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name="classification"))
    await until(lambda: is_not_ready(engine))
    with pytest.raises(ModelUnavailable):
        await engine.infer({"image": picture()[None]}, 10.0)
    with pytest.raises(ModelUnavailable):
        await engine.describe()
    call(server, "RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name="classification"))
    await until(engine.ready)
    assert (await engine.describe()).task == "classification"


async def test_a_new_version_is_noticed_and_a_broken_one_leaves_the_old_one_serving(
    server: TritonServer, engine_of: EngineOf
) -> None:
    engine = engine_of(server, "semantic_segmentation")
    load = service_pb2.RepositoryModelLoadRequest(model_name="semantic_segmentation")
    assert (await engine.describe()).version == "1"
    new_labels = json.dumps(["night", "day"])
    folder = write_model(server.repository, "semantic_segmentation", version=2, parameters={"labels": new_labels})
    call(server, "RepositoryModelLoad", load)
    assert (await engine.infer({"image": picture()[None]}, 10.0)).model_version == "2"
    described = await engine.describe()
    assert (described.version, described.labels) == ("2", ("night", "day"))

    (folder / "3").mkdir()
    (folder / "3" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(grpc.RpcError, match=r"(?s)model\.onnx failed"):
        call(server, "RepositoryModelLoad", load)
    assert (await engine.infer({"image": picture()[None]}, 10.0)).model_version == "2"
    assert (await engine.describe()).version == "2"
    assert await engine.ready()


async def test_a_configuration_that_the_graph_belies_does_not_load(server: TritonServer) -> None:
    cases = {
        "option": (
            'string_value: "1"',
            'string_value: "many"',
            "'intra_op_thread_count': expected an integer, found 'many'",
        ),
        "output": (
            'name: "detection_scores"',
            'name: "scores"',
            "the configuration names the output 'scores', the graph",
        ),
        "size": ("[ 48, 64, 3 ]", "[ 48, 65, 3 ]", "input 'image': the configuration says [-1, 48, 65, 3]"),
        "file": ('"model.onnx"', '"gone.onnx"', "gone.onnx' for model 'file'"),
    }
    async with grpc.aio.insecure_channel(server.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        loads = []
        for name, (before, after, _) in cases.items():
            folder = write_model(server.repository, "detection", name=name)
            text = (folder / "config.pbtxt").read_text()
            assert before in text
            (folder / "config.pbtxt").write_text(text.replace(before, after))
            loads.append(stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=name)))
        answers = await asyncio.gather(*loads, return_exceptions=True)
    for (_, _, message), answer in zip(cases.values(), answers, strict=True):
        assert isinstance(answer, grpc.aio.AioRpcError)
        assert message in (answer.details() or "")


async def test_readiness_is_proved_by_one_inference_for_all_who_ask(server: TritonServer, engine_of: EngineOf) -> None:
    engine = engine_of(server, "detection")
    before = inferences_of(server, "detection")
    assert all(await asyncio.gather(*(engine.ready() for _ in range(20))))
    assert inferences_of(server, "detection") - before == 1
    await engine.infer({"image": picture()[None]}, 10.0)
    assert await engine.ready()
    assert inferences_of(server, "detection") - before == 2


async def test_a_served_model_that_breaks_the_contract_is_refused(server: TritonServer, engine_of: EngineOf) -> None:
    engine = engine_of(server, "bare")
    with pytest.raises(ContractViolation, match=r"parameter 'task': expected one of .* found none; parameter 'labels'"):
        await engine.describe()
    assert not await engine.ready()


async def test_an_unknown_model_is_unavailable(server: TritonServer, engine_of: EngineOf) -> None:
    engine = engine_of(server, "unheard_of")
    with pytest.raises(ModelUnavailable, match="unheard_of"):
        await engine.describe()
    assert not await engine.ready()


async def is_not_ready(engine: TritonEngine) -> bool:
    return not await engine.ready()
