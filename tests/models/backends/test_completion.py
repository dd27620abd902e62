"""What the local backends fill in where a configuration says little."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.models.backends.support import as_triton_gives_it
from tests.support.contract_models import configuration, model


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def backend(backend_named: Callable[[str], ModuleType], request: pytest.FixtureRequest) -> ModuleType:
    return backend_named(request.param)


def completed(backend: ModuleType, folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration `text` of a detection graph as the backend completes it, starting from Triton's JSON of it."""
    (folder / "model.onnx").write_bytes(model("detection").SerializeToString())
    utilities = sys.modules["triton_python_backend_utils"]
    monkeypatch.setattr(utilities, "get_model_dir", lambda: str(folder), raising=False)
    config = text_format.Parse(text, ModelConfig())
    given = {"name": "detection", "max_batch_size": 0, "input": [], "output": [], **as_triton_gives_it(config)}
    for tensor in given["input"] + given["output"]:
        tensor.setdefault("dims", [])
        tensor.setdefault("data_type", "TYPE_INVALID")
        tensor["dims"] = [int(size) for size in tensor["dims"]]
    answer = backend.TritonPythonModel.auto_complete_config(utilities.ModelConfig(json.dumps(given)))
    return dict(answer.as_dict())


def test_a_complete_configuration_is_left_alone(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = completed(backend, tmp_path, configuration("detection"), monkeypatch)
    assert answer["max_batch_size"] == 8
    assert [tensor["dims"] for tensor in answer["input"]] == [[48, 64, 3]]


def test_an_empty_configuration_batches_by_four(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = completed(backend, tmp_path, "", monkeypatch)
    assert answer["max_batch_size"] == 4
    assert "dynamic_batching" in answer
    assert answer["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [48, 64, 3]}]
    assert len(answer["output"]) == 4


def test_what_the_configuration_says_is_kept(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'max_batch_size: 16 input [ { name: "image" data_type: TYPE_UINT8 dims: [ 48, 64, 3 ] } ]'
    answer = completed(backend, tmp_path, text, monkeypatch)
    assert answer["max_batch_size"] == 16
    assert len(answer["input"]) == 1
    assert {tensor["name"] for tensor in answer["output"]} >= {"num_detections", "detection_boxes"}


def test_a_named_tensor_gets_its_size(backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = completed(backend, tmp_path, 'input [ { name: "image" } ]', monkeypatch)
    assert answer["max_batch_size"] == 0
    assert answer["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [-1, 48, 64, 3]}]
