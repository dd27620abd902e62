"""The options that the onnxruntime backend reads. The backend at work is tested in tests/integration."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from services.runtime.engines.onnxruntime import session_options
from tests.models.backends.support import as_triton_gives_it


@pytest.fixture(scope="module")
def backend(backend_named: Callable[[str], ModuleType]) -> ModuleType:
    return backend_named("onnxruntime")


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


def test_a_model_takes_its_share_of_the_cores_unless_it_says_more(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_THREADS", "3")
    config = ModelConfig()
    assert backend.session_options(as_triton_gives_it(config)).intra_op_num_threads == 3
    config.parameters["intra_op_thread_count"].string_value = "5"
    assert backend.session_options(as_triton_gives_it(config)).intra_op_num_threads == 5


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
