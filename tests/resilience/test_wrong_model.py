"""A model file that is not the one that was built is refused by name, and the one that is loaded goes on serving."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.runtime.engines.onnxruntime import OnnxRuntimeEngine
from services.runtime.engines.triton import TritonEngine
from services.runtime.errors import ModelUnavailable
from tests.support.contract_models import model, picture, write_model
from tests.support.triton import TritonServer

IMAGE = {"image": picture()[None]}


def write_pinned_model(repository: Path) -> Path:
    """A model whose configuration says which graph it was written for; returns the graph's path."""
    graph = write_model(repository, "detection") / "1" / "model.onnx"
    pin(repository, graph.read_bytes())
    return graph


def pin(repository: Path, graph: bytes) -> None:
    write_model(repository, "detection", parameters={"model_sha256": hashlib.sha256(graph).hexdigest()})
    (repository / "detection" / "1" / "model.onnx").write_bytes(graph)


def load(server: TritonServer) -> None:
    with grpc.insecure_channel(server.url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name="detection"), timeout=60)


@pytest.mark.integration
async def test_triton_refuses_it_and_goes_on_with_the_old_one(
    start_triton: Callable[..., TritonServer], tmp_path: Path
) -> None:
    graph = write_pinned_model(tmp_path)
    server = start_triton(tmp_path, ["detection"])
    engine = TritonEngine(server.url, "detection")
    try:
        assert await engine.ready()
        right = graph.read_bytes()
        other = model("detection", limit=254).SerializeToString()  # a sound graph, and not the one that was built
        graph.write_bytes(other)
        with pytest.raises(grpc.RpcError) as refused:
            load(server)
        found = hashlib.sha256(other).hexdigest()
        assert f"model 'detection': 1/model.onnx: expected SHA-256 {hashlib.sha256(right).hexdigest()}" in str(
            refused.value
        )
        assert found in str(refused.value)
        assert (await engine.infer(IMAGE, 20.0)).outputs["num_detections"][0, 0] == 1
        pin(tmp_path, other)
        load(server)
        assert (await engine.infer(IMAGE, 20.0)).outputs["num_detections"][0, 0] == 1
    finally:
        await engine.close()
        server.kill()


async def test_the_engine_in_process_refuses_it(tmp_path: Path) -> None:
    graph = write_pinned_model(tmp_path)
    right = graph.read_bytes()
    graph.write_bytes(right + b"\0")
    engine = OnnxRuntimeEngine(tmp_path, "detection")
    try:
        with pytest.raises(ModelUnavailable, match="expected SHA-256"):
            await engine.infer(IMAGE, 20.0)
        assert not await engine.ready()
        graph.write_bytes(right)
        assert await engine.ready()
        graph.write_bytes(right + b"\0")
        assert (await engine.infer(IMAGE, 20.0)).outputs["num_detections"][0, 0] == 1
    finally:
        await engine.close()
