"""Triton's `onnxruntime` backend on a machine without NVIDIA's image: a python-based backend of the same name.

It runs with the `onnxruntime` package of the server's environment. It reads only what Triton's own backend reads, by
the same names and with the same meaning, so one model repository serves both: `default_model_filename`,
`optimization.graph.level`, and the parameters `intra_op_thread_count`, `inter_op_thread_count`, `execution_mode`,
`enable_mem_arena` and `enable_mem_pattern`.
https://github.com/triton-inference-server/onnxruntime_backend#model-config-options

This folder must not become a package: Triton puts its parent on `sys.path`, where an `__init__.py` would hide the
`onnxruntime` package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from graph_backend import Graph, GraphBackend, GraphTensor, parameters_of, threads_of_a_model, unserved

# ONNX element types without a text type: the python backend returns strings wrongly.
_TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
}

_GRAPH_OPTIMIZATION = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def session_options(config: dict[str, Any]) -> ort.SessionOptions:
    """The session options that a model configuration asks for.

    config: Triton's ModelConfig as a dictionary. What it leaves out stays at ONNX Runtime's default, but for the
    threads of a model. Raises `ValueError` naming the parameter whose value is not understood.
    """
    parameters = parameters_of(config)
    options = ort.SessionOptions()
    if threads := _integer(parameters, "intra_op_thread_count") or threads_of_a_model():
        options.intra_op_num_threads = threads
    if threads := _integer(parameters, "inter_op_thread_count"):
        options.inter_op_num_threads = threads
    execution_mode = _integer(parameters, "execution_mode")
    if execution_mode not in (0, 1):
        raise ValueError(f"parameter 'execution_mode': expected 0 (sequential) or 1 (parallel), found {execution_mode}")
    options.execution_mode = ort.ExecutionMode.ORT_PARALLEL if execution_mode else ort.ExecutionMode.ORT_SEQUENTIAL
    if "enable_mem_arena" in parameters:
        options.enable_cpu_mem_arena = _boolean(parameters, "enable_mem_arena")
    if "enable_mem_pattern" in parameters:
        options.enable_mem_pattern = _boolean(parameters, "enable_mem_pattern")
    # Triton writes 64-bit numbers of the configuration as JSON strings; a level that it does not know means "all".
    level = int(config.get("optimization", {}).get("graph", {}).get("level", 0))
    options.graph_optimization_level = _GRAPH_OPTIMIZATION.get(level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    # Threads that wait for work sleep instead of spinning, because several models share the processor here: two YOLOv8n
    # of two threads each, on two busy cores, take 135 ms of processor time per frame instead of 245.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _integer(parameters: dict[str, str], name: str) -> int:
    text = parameters.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"parameter '{name}': expected an integer, found '{text}'") from None


def _boolean(parameters: dict[str, str], name: str) -> bool:
    text = parameters[name].lower()
    if text not in ("0", "1", "false", "true"):
        raise ValueError(f"parameter '{name}': expected true or false, found '{text}'")
    return text in ("1", "true")


class TritonPythonModel(GraphBackend):
    """One instance of one model."""

    runtime = "ONNX Runtime"

    @staticmethod
    def tensors(path: Path) -> tuple[list[GraphTensor], list[GraphTensor]]:
        """See `GraphBackend.tensors`."""
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        graph = _Session(path, options)
        return graph.inputs, graph.outputs

    @staticmethod
    def open(path: Path, config: dict[str, Any]) -> Graph:
        """See `GraphBackend.open`."""
        return _Session(path, session_options(config))


class _Session(Graph):
    def __init__(self, path: Path, options: ort.SessionOptions) -> None:
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [_described(tensor) for tensor in self._session.get_inputs()]
        self.outputs = [_described(tensor) for tensor in self._session.get_outputs()]
        threads = options.intra_op_num_threads or "default"
        self.description = f"ONNX Runtime {ort.__version__}, intra-op threads {threads}"

    def run(self, outputs: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        answer: list[np.ndarray] = self._session.run(outputs, feed)
        return answer


def _described(tensor: ort.NodeArg) -> GraphTensor:
    if tensor.type not in _TRITON_TYPES:
        raise unserved(tensor.name, tensor.type, _TRITON_TYPES)
    dims = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return GraphTensor(tensor.name, _TRITON_TYPES[tensor.type], dims)
