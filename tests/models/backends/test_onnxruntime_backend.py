"""What the local backend reads from a configuration. The backend at work is tested in tests/integration."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from services.runtime.engines.onnxruntime import session_options
from services.stack.triton import DEFAULT_ENVIRONMENT
from tests.support.contract_models import configuration, model

PROJECT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def backend() -> Iterator[ModuleType]:
    """models/backends/onnxruntime/model.py, beside the utilities that Triton gives to it."""
    environment = Path(os.environ.get("TRITON_ENVIRONMENT", DEFAULT_ENVIRONMENT))
    utilities = next(environment.glob("lib/python*/site-packages/pytriton/tritonserver/backends/python"), None)
    if utilities is None:
        pytest.skip(f"{environment} is missing: no Triton server")
    sys.path.insert(0, str(utilities))
    try:
        path = PROJECT / "models" / "backends" / "onnxruntime" / "model.py"
        spec = importlib.util.spec_from_file_location("onnxruntime_backend", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(utilities))


def as_triton_gives_it(config: ModelConfig) -> dict[str, Any]:
    """Triton hands the configuration to a Python backend as JSON with proto field names."""
    return dict(json_format.MessageToDict(config, preserving_proto_field_name=True))


def options_of(options: Any) -> dict[str, Any]:
    names = (
        "intra_op_num_threads",
        "inter_op_num_threads",
        "execution_mode",
        "graph_optimization_level",
        "enable_cpu_mem_arena",
        "enable_mem_pattern",
    )
    entries = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")
    found = {name: getattr(options, name) for name in names}
    return found | {entry: options.get_session_config_entry(entry) for entry in entries}


@pytest.mark.parametrize(
    "text",
    [
        "",
        'parameters { key: "intra_op_thread_count" value { string_value: "3" } }',
        'parameters { key: "inter_op_thread_count" value { string_value: "2" } }',
        'parameters { key: "execution_mode" value { string_value: "1" } }',
        'parameters { key: "execution_mode" value { string_value: "0" } }',
        'parameters { key: "enable_mem_arena" value { string_value: "0" } }',
        'parameters { key: "enable_mem_arena" value { string_value: "true" } }',
        'parameters { key: "enable_mem_pattern" value { string_value: "false" } }',
        *(f"optimization {{ graph {{ level: {level} }} }}" for level in (-1, 0, 1, 2, 5)),
    ],
)
def test_the_backend_and_the_in_process_engine_read_the_same_options(backend: ModuleType, text: str) -> None:
    config = text_format.Parse(text, ModelConfig())
    ours = options_of(session_options(config))
    assert options_of(backend.session_options(as_triton_gives_it(config))) == ours
    default = options_of(session_options(ModelConfig()))
    says_the_default = text in ("", *(f"optimization {{ graph {{ level: {level} }} }}" for level in (0, 5)))
    if not says_the_default and '"0"' not in text.replace("enable", "") and '"true"' not in text:
        assert ours != default


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("intra_op_thread_count", "two"),
        ("inter_op_thread_count", ""),
        ("execution_mode", "2"),
        ("enable_mem_arena", "yes"),
        ("enable_mem_pattern", "2"),
    ],
)
def test_both_refuse_what_they_do_not_understand_with_the_same_words(
    backend: ModuleType, name: str, value: str
) -> None:
    config = ModelConfig()
    config.parameters[name].string_value = value
    with pytest.raises(ValueError, match=f"parameter '{name}': expected .*, found '?{value}") as ours:
        session_options(config)
    with pytest.raises(ValueError, match=f"parameter '{name}'") as theirs:
        backend.session_options(as_triton_gives_it(config))
    assert str(ours.value) == str(theirs.value)


def completed(backend: ModuleType, folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration `text` of a detection graph as the backend completes it, starting from Triton's JSON of it."""
    (folder / "model.onnx").write_bytes(model("detection").SerializeToString())
    utilities = backend.pb_utils
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
