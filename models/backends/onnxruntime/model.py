"""Triton's `onnxruntime` backend on a machine without NVIDIA's image: a python-based backend of the same name.

Triton runs this file in a process per model instance, with the `onnxruntime` package of the server's environment. It
reads only what Triton's own backend reads, by the same names and with the same meaning, so one model repository serves
both: `default_model_filename`, `optimization.graph.level`, and the parameters `intra_op_thread_count`,
`inter_op_thread_count`, `execution_mode`, `enable_mem_arena` and `enable_mem_pattern`.
https://github.com/triton-inference-server/onnxruntime_backend#model-config-options

This folder must not become a package: Triton puts its parent on `sys.path`, where an `__init__.py` would hide the
`onnxruntime` package.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

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

# The batch size that Triton's own backend chooses for a model that can batch and whose configuration says nothing.
_DEFAULT_MAX_BATCH_SIZE = 4

_GRAPH_OPTIMIZATION = {
    -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    0: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def session_options(config: dict[str, Any]) -> ort.SessionOptions:
    """The session options that a model configuration asks for.

    config: Triton's ModelConfig as a dictionary. What it leaves out stays at ONNX Runtime's default. Raises
    `ValueError` naming the parameter whose value is not understood.
    """
    parameters = {name: value.get("string_value", "") for name, value in config.get("parameters", {}).items()}
    options = ort.SessionOptions()
    if threads := _integer(parameters, "intra_op_thread_count"):
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


def _open_session(config: dict[str, Any], options: ort.SessionOptions) -> ort.InferenceSession:
    path = Path(pb_utils.get_model_dir()) / (config.get("default_model_filename") or "model.onnx")
    if not path.is_file():
        raise pb_utils.TritonModelException(f"unable to find '{path}' for model '{config['name']}'")
    return ort.InferenceSession(_graph(config, path), options, providers=["CPUExecutionProvider"])


def _graph(config: dict[str, Any], path: Path) -> bytes | str:
    """The graph, which must be the one that the configuration was written for where that says which; else its path.

    Where it is another one, Triton goes on with the version that it has loaded.
    """
    expected = config.get("parameters", {}).get("model_sha256", {}).get("string_value")
    if not expected:
        return str(path)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise pb_utils.TritonModelException(
            f"model '{config['name']}': {path.parent.name}/{path.name}: expected SHA-256 {expected}, found {found}"
        )
    return content


def _dims(tensor: ort.NodeArg) -> list[int]:
    """The tensor's shape as Triton writes it: -1 where the graph leaves a size open."""
    return [size if isinstance(size, int) else -1 for size in tensor.shape]


def _triton_type(tensor: ort.NodeArg) -> str:
    if tensor.type not in _TRITON_TYPES:
        raise pb_utils.TritonModelException(
            f"tensor '{tensor.name}' has type {tensor.type}; this backend serves {', '.join(sorted(_TRITON_TYPES))}"
        )
    return _TRITON_TYPES[tensor.type]


def _is_complete(config: dict[str, Any]) -> bool:
    tensors = config["input"] + config["output"]
    described = all(tensor["dims"] and tensor["data_type"] != "TYPE_INVALID" for tensor in tensors)
    return bool(config["input"]) and bool(config["output"]) and described


class TritonPythonModel:
    """One instance of one model."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config: pb_utils.ModelConfig) -> pb_utils.ModelConfig:
        """Fills in the tensors and the batch size that the configuration leaves out, from the graph.

        A complete configuration is left to `initialize` to check, so that the graph is not loaded twice.
        """
        config = auto_complete_model_config.as_dict()
        if _is_complete(config):
            return auto_complete_model_config
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = _open_session(config, options)
        tensors = [*session.get_inputs(), *session.get_outputs()]
        if not config["input"] and not config["output"] and all(_dims(tensor)[:1] == [-1] for tensor in tensors):
            if config["max_batch_size"] == 0:
                auto_complete_model_config.set_max_batch_size(_DEFAULT_MAX_BATCH_SIZE)
            auto_complete_model_config.set_dynamic_batching()
        batch_axes = 1 if config["max_batch_size"] > 0 else 0

        def description(tensor: ort.NodeArg) -> dict[str, Any]:
            return {"name": tensor.name, "data_type": _triton_type(tensor), "dims": _dims(tensor)[batch_axes:]}

        named = {tensor["name"] for tensor in config["input"] + config["output"] if tensor["dims"]}
        for tensor in session.get_inputs():
            if tensor.name not in named:
                auto_complete_model_config.add_input(description(tensor))
        for tensor in session.get_outputs():
            if tensor.name not in named:
                auto_complete_model_config.add_output(description(tensor))
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph and checks that it has the tensors of the configuration."""
        config = json.loads(args["model_config"])
        self._name = config["name"]
        self._batches = config["max_batch_size"] > 0
        try:
            options = session_options(config)
        except ValueError as error:
            raise pb_utils.TritonModelException(f"model '{self._name}': {error}") from error
        self._session = _open_session(config, options)
        graph_inputs = {tensor.name: tensor for tensor in self._session.get_inputs()}
        graph_outputs = {tensor.name: tensor for tensor in self._session.get_outputs()}
        for tensor in config["input"]:
            self._check("input", tensor, graph_inputs)
        for tensor in config["output"]:
            self._check("output", tensor, graph_outputs)
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        if missing := sorted(set(graph_inputs) - set(self._inputs)):
            raise pb_utils.TritonModelException(f"model '{self._name}': the configuration lacks the inputs {missing}")
        pb_utils.Logger.log_info(
            f"{args['model_instance_name']}: version {args['model_version']} runs on ONNX Runtime {ort.__version__}, "
            f"intra-op threads {options.intra_op_num_threads or 'default'}, max batch {config['max_batch_size']}"
        )

    def _check(self, kind: str, configured: dict[str, Any], graph: dict[str, ort.NodeArg]) -> None:
        name = configured["name"]
        if name not in graph:
            raise pb_utils.TritonModelException(
                f"model '{self._name}': the configuration names the {kind} '{name}', the graph has {sorted(graph)}"
            )
        found_type, found_dims = _triton_type(graph[name]), _dims(graph[name])
        if configured["data_type"] != found_type:
            raise pb_utils.TritonModelException(
                f"model '{self._name}', {kind} '{name}': the configuration says {configured['data_type']}, "
                f"the graph {found_type}"
            )
        expected = ([-1] if self._batches else []) + [int(size) for size in configured["dims"]]
        agree = all(a == b or -1 in (a, b) for a, b in zip(expected, found_dims, strict=False))
        can_batch = not self._batches or found_dims[:1] == [-1]
        if len(expected) != len(found_dims) or not agree or not can_batch:
            raise pb_utils.TritonModelException(
                f"model '{self._name}', {kind} '{name}': the configuration says {expected} (with the batch axis where "
                f"max_batch_size is above 0), the graph {found_dims}"
            )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers the requests that Triton's dynamic batcher put together, in their order.

        Requests whose tensors have equal shapes run as one batch. Where that run fails, each of its requests runs
        alone, so that only those at fault are answered with an error.
        """
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs}
            for request in requests
        ]
        groups: dict[Any, list[int]] = {}
        for index, feed in enumerate(feeds):
            shapes = tuple(feed[name].shape[1:] for name in self._inputs)
            groups.setdefault(shapes if self._batches else index, []).append(index)
        responses: list[Any] = [None] * len(requests)
        for members in groups.values():
            answers = self._run([requests[i] for i in members], [feeds[i] for i in members])
            for index, answer in zip(members, answers, strict=True):
                responses[index] = answer
        return responses

    def _run(self, requests: list[Any], feeds: list[dict[str, np.ndarray]]) -> list[Any]:
        wanted = [set(request.requested_output_names()) or set(self._outputs) for request in requests]
        names = [name for name in self._outputs if any(name in some for some in wanted)]
        feed = feeds[0]
        if len(feeds) > 1:
            feed = {name: np.concatenate([one[name] for one in feeds]) for name in self._inputs}
        try:
            outputs = dict(zip(names, self._session.run(names, feed), strict=True))
        except Exception as error:  # ONNX Runtime raises a class of its own per status code, without a common base
            if len(requests) > 1:
                return [self._run([one], [its_feed])[0] for one, its_feed in zip(requests, feeds, strict=True)]
            message = f"model '{self._name}' failed in ONNX Runtime: {error}"
            pb_utils.Logger.log_error(message)
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(message))]
        responses, start = [], 0
        for some, one in zip(wanted, feeds, strict=True):
            rows = slice(None)
            if len(requests) > 1:
                rows = slice(start, start + len(one[self._inputs[0]]))
                start = rows.stop
            tensors = [pb_utils.Tensor(name, outputs[name][rows]) for name in names if name in some]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses

    def finalize(self) -> None:
        """Lets go of the graph's memory before the process ends."""
        pb_utils.Logger.log_info(f"{self._name}: unloading")
        del self._session
