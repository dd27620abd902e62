"""Triton's `openvino` backend on a machine without NVIDIA's image: a python-based backend of the same name.

It runs with the `openvino` package of the server's environment, which reads model.onnx as it is. It takes the
parameters of Triton's own backend by the same names and with the same meaning, so one model repository serves both:
`INFERENCE_NUM_THREADS`, `COMPILATION_NUM_THREADS`, `NUM_STREAMS`, `PERFORMANCE_HINT` and `HINT_BF16`. Three that
Triton's own backend needs for graphs of an open batch size have nothing to do here, where every size runs:
`ENABLE_BATCH_PADDING`, `SKIP_OV_DYNAMIC_BATCHSIZE` and `RESHAPE_IO_LAYERS`.
https://github.com/triton-inference-server/openvino_backend#parameters

OpenVINO computes in bfloat16 where the CPU is made for it (AMX, AVX512_BF16). `INFERENCE_PRECISION_HINT`, OpenVINO's
own name, asks for `f32`; Triton's own backend has no such parameter and passes over it.

This folder must not become a package, which would hide the `openvino` package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from graph_backend import Graph, GraphBackend, GraphTensor, parameters_of, threads_of_a_model, unserved

# OpenVINO's element types without text, as the python backend returns strings wrongly.
_TRITON_TYPES = {
    "boolean": "TYPE_BOOL",
    "u8": "TYPE_UINT8",
    "u16": "TYPE_UINT16",
    "u32": "TYPE_UINT32",
    "u64": "TYPE_UINT64",
    "i8": "TYPE_INT8",
    "i16": "TYPE_INT16",
    "i32": "TYPE_INT32",
    "i64": "TYPE_INT64",
    "f16": "TYPE_FP16",
    "f32": "TYPE_FP32",
    "f64": "TYPE_FP64",
}

# The words that Triton's backend takes, in any case; OpenVINO takes the same in capitals.
_WORDS = {
    "NUM_STREAMS": ("AUTO", "NUMA"),
    "PERFORMANCE_HINT": ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT"),
    "INFERENCE_PRECISION_HINT": ("BF16", "F32"),
    "HINT_BF16": ("YES",),
}
_NUMBERS = ("INFERENCE_NUM_THREADS", "COMPILATION_NUM_THREADS", "NUM_STREAMS")


def properties(config: dict[str, Any]) -> dict[str, str]:
    """OpenVINO's properties that a model configuration asks for.

    config: Triton's ModelConfig as a dictionary. What it leaves out stays at OpenVINO's default, but for the threads
    of a model. Raises `ValueError` naming the parameter whose value is not understood.
    """
    parameters = parameters_of(config)
    threads = threads_of_a_model()
    # Models that share the cores are processes that do not know of each other: each would pin its threads to the first.
    found = {"INFERENCE_NUM_THREADS": str(threads), "ENABLE_CPU_PINNING": "NO"} if threads else {}
    for name in sorted({*_WORDS, *_NUMBERS} & parameters.keys()):
        text, words = parameters[name].upper(), _WORDS.get(name, ())
        if text not in words and not (name in _NUMBERS and text.isdecimal()):
            expected = [*words, *(["a number of 0 or more"] if name in _NUMBERS else [])]
            raise ValueError(f"parameter '{name}': expected {' or '.join(expected)}, found '{parameters[name]}'")
        if name == "HINT_BF16":
            found["INFERENCE_PRECISION_HINT"] = "bf16"
        else:
            found[name] = text.lower() if name == "INFERENCE_PRECISION_HINT" else text
    return found


class TritonPythonModel(GraphBackend):
    """One instance of one model."""

    runtime = "OpenVINO"

    @staticmethod
    def tensors(path: Path) -> tuple[list[GraphTensor], list[GraphTensor]]:
        """See `GraphBackend.tensors`."""
        model = ov.Core().read_model(path)
        return [_described(port) for port in model.inputs], [_described(port) for port in model.outputs]

    @staticmethod
    def open(path: Path, config: dict[str, Any]) -> Graph:
        """See `GraphBackend.open`."""
        return _Compiled(path, properties(config))


class _Compiled(Graph):
    def __init__(self, path: Path, asked: dict[str, str]) -> None:
        core = ov.Core()
        model = core.read_model(path)
        self.inputs = [_described(port) for port in model.inputs]
        self.outputs = [_described(port) for port in model.outputs]
        compiled = core.compile_model(model, "CPU", asked)
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        threads = compiled.get_property("INFERENCE_NUM_THREADS")
        self.description = f"OpenVINO {ov.__version__.split('-')[0]} in {precision}, threads {threads}"
        self._request = compiled.create_infer_request()

    def run(self, outputs: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        answer = self._request.infer(feed, share_inputs=True)
        return [answer[name] for name in outputs]


def _described(port: ov.Output) -> GraphTensor:
    name, type_name, shape = port.get_any_name(), port.get_element_type().get_type_name(), port.get_partial_shape()
    if type_name not in _TRITON_TYPES:
        raise unserved(name, type_name, _TRITON_TYPES)
    dims = [size.get_length() if size.is_static else -1 for size in shape]
    return GraphTensor(name, _TRITON_TYPES[type_name], dims)
