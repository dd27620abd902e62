"""The properties that the openvino backend reads. The backend at work is tested in tests/integration."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.models.backends.support import as_triton_gives_it


@pytest.fixture(scope="module")
def backend(backend_named: Callable[[str], ModuleType]) -> ModuleType:
    return backend_named("openvino")


def properties(backend: ModuleType, **parameters: str) -> dict[str, str]:
    config = ModelConfig()
    for name, value in parameters.items():
        config.parameters[name].string_value = value
    return dict(backend.properties(as_triton_gives_it(config)))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("INFERENCE_NUM_THREADS", "1", {"INFERENCE_NUM_THREADS": "1"}),
        ("COMPILATION_NUM_THREADS", "2", {"COMPILATION_NUM_THREADS": "2"}),
        ("NUM_STREAMS", "2", {"NUM_STREAMS": "2"}),
        ("NUM_STREAMS", "auto", {"NUM_STREAMS": "AUTO"}),
        ("PERFORMANCE_HINT", "throughput", {"PERFORMANCE_HINT": "THROUGHPUT"}),
        ("HINT_BF16", "YES", {"INFERENCE_PRECISION_HINT": "bf16"}),
        ("INFERENCE_PRECISION_HINT", "f32", {"INFERENCE_PRECISION_HINT": "f32"}),
        ("ENABLE_BATCH_PADDING", "YES", {}),
        ("labels", "[]", {}),
    ],
)
def test_openvino_takes_what_a_parameter_becomes(
    backend: ModuleType, name: str, value: str, expected: dict[str, str]
) -> None:
    found = properties(backend, **{name: value})
    assert found == expected
    backend.ov.Core().set_property("CPU", found)


def test_a_model_takes_its_share_of_the_cores_unless_it_says_more(
    backend: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_THREADS", "3")
    shared = {"ENABLE_CPU_PINNING": "NO"}
    assert properties(backend) == {"INFERENCE_NUM_THREADS": "3", **shared}
    assert properties(backend, INFERENCE_NUM_THREADS="5") == {"INFERENCE_NUM_THREADS": "5", **shared}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INFERENCE_NUM_THREADS", "-1"),
        ("COMPILATION_NUM_THREADS", "many"),
        ("NUM_STREAMS", "some"),
        ("PERFORMANCE_HINT", "fast"),
        ("HINT_BF16", "NO"),
        ("INFERENCE_PRECISION_HINT", "i8"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(backend: ModuleType, name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"parameter '{name}': expected .*, found '{value}'"):
        properties(backend, **{name: value})
