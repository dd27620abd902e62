"""What Triton's local backends share: a graph in a file, the tensors of its configuration, and requests in batches.

Each backend is a folder beside this file with a `model.py`, whose `TritonPythonModel` says how its runtime opens and
runs a graph. Triton runs it in a process per model instance, under the Python of the server's environment.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

# The batch size that Triton's own backends choose for a model that can batch and whose configuration says nothing.
_DEFAULT_MAX_BATCH_SIZE = 4


@dataclass(frozen=True)
class GraphTensor:
    """An input or output of a graph. triton_type: such as TYPE_UINT8. dims: with -1 where the graph leaves it open."""

    name: str
    triton_type: str
    dims: list[int]


class Graph(ABC):
    """A graph that is ready to run. description: of the runtime and its options, for the log."""

    inputs: list[GraphTensor]
    outputs: list[GraphTensor]
    description: str

    @abstractmethod
    def run(self, outputs: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Computes the named outputs, in arrays that stay as they are when the graph runs again."""


class GraphBackend(ABC):
    """One instance of one model; what Triton calls, but for how a runtime opens a graph."""

    runtime: str
    """Name of what runs the graph, for messages."""

    @staticmethod
    @abstractmethod
    def tensors(path: Path) -> tuple[list[GraphTensor], list[GraphTensor]]:
        """Inputs and outputs of the graph in a file, read without making it ready to run."""

    @staticmethod
    @abstractmethod
    def open(path: Path, config: dict[str, Any]) -> Graph:
        """Loads the graph with the options of Triton's ModelConfig.

        Raises `ValueError` naming the parameter whose value is not understood.
        """

    @classmethod
    def auto_complete_config(cls, auto_complete_model_config: pb_utils.ModelConfig) -> pb_utils.ModelConfig:
        """Fills in the tensors and the batch size that the configuration leaves out, from the graph.

        A complete configuration is left to `initialize` to check, so that the graph is not loaded twice.
        """
        config = auto_complete_model_config.as_dict()
        if _is_complete(config):
            return auto_complete_model_config
        inputs, outputs = cls.tensors(_path(config))
        if not config["input"] and not config["output"] and all(each.dims[:1] == [-1] for each in inputs + outputs):
            if config["max_batch_size"] == 0:
                auto_complete_model_config.set_max_batch_size(_DEFAULT_MAX_BATCH_SIZE)
            auto_complete_model_config.set_dynamic_batching()
        batch_axes = 1 if config["max_batch_size"] > 0 else 0

        def description(tensor: GraphTensor) -> dict[str, Any]:
            return {"name": tensor.name, "data_type": tensor.triton_type, "dims": tensor.dims[batch_axes:]}

        named = {tensor["name"] for tensor in config["input"] + config["output"] if tensor["dims"]}
        for tensor in inputs:
            if tensor.name not in named:
                auto_complete_model_config.add_input(description(tensor))
        for tensor in outputs:
            if tensor.name not in named:
                auto_complete_model_config.add_output(description(tensor))
        return auto_complete_model_config

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the graph and checks that it has the tensors of the configuration."""
        config = json.loads(args["model_config"])
        self._name = config["name"]
        self._batches = config["max_batch_size"] > 0
        try:
            self._graph = self.open(_path(config), config)
        except ValueError as error:
            raise pb_utils.TritonModelException(f"model '{self._name}': {error}") from error
        graph_inputs = {tensor.name: tensor for tensor in self._graph.inputs}
        graph_outputs = {tensor.name: tensor for tensor in self._graph.outputs}
        for tensor in config["input"]:
            self._check("input", tensor, graph_inputs)
        for tensor in config["output"]:
            self._check("output", tensor, graph_outputs)
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        if missing := sorted(set(graph_inputs) - set(self._inputs)):
            raise pb_utils.TritonModelException(f"model '{self._name}': the configuration lacks the inputs {missing}")
        pb_utils.Logger.log_info(
            f"{args['model_instance_name']}: version {args['model_version']} runs on {self._graph.description}, "
            f"max batch {config['max_batch_size']}"
        )

    def _check(self, kind: str, configured: dict[str, Any], graph: dict[str, GraphTensor]) -> None:
        name = configured["name"]
        if name not in graph:
            raise pb_utils.TritonModelException(
                f"model '{self._name}': the configuration names the {kind} '{name}', the graph has {sorted(graph)}"
            )
        found = graph[name]
        if configured["data_type"] != found.triton_type:
            raise pb_utils.TritonModelException(
                f"model '{self._name}', {kind} '{name}': the configuration says {configured['data_type']}, "
                f"the graph {found.triton_type}"
            )
        expected = ([-1] if self._batches else []) + [int(size) for size in configured["dims"]]
        agree = all(a == b or -1 in (a, b) for a, b in zip(expected, found.dims, strict=False))
        can_batch = not self._batches or found.dims[:1] == [-1]
        if len(expected) != len(found.dims) or not agree or not can_batch:
            raise pb_utils.TritonModelException(
                f"model '{self._name}', {kind} '{name}': the configuration says {expected} (with the batch axis where "
                f"max_batch_size is above 0), the graph {found.dims}"
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
            outputs = dict(zip(names, self._graph.run(names, feed), strict=True))
        except Exception as error:  # the runtimes' errors have no common base
            if len(requests) > 1:
                return [self._run([one], [its_feed])[0] for one, its_feed in zip(requests, feeds, strict=True)]
            message = f"model '{self._name}' failed in {self.runtime}: {error}"
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
        del self._graph


def threads_of_a_model() -> int:
    """How many threads a model may take whose configuration does not say; 0: the runtime's choice, every core.

    It is MODEL_THREADS of the environment, which whoever starts the server sets to a model's share of the cores.
    """
    return int(os.environ.get("MODEL_THREADS", "0"))


def parameters_of(config: dict[str, Any]) -> dict[str, str]:
    """The parameters of Triton's ModelConfig, by name."""
    return {name: value.get("string_value", "") for name, value in config.get("parameters", {}).items()}


def unserved(name: str, found: str, served: dict[str, str]) -> pb_utils.TritonModelException:
    """What to raise about a tensor of a type that a backend does not serve. served: its types by their own names."""
    return pb_utils.TritonModelException(
        f"tensor '{name}' has type {found}; this backend serves {', '.join(sorted(served))}"
    )


def _path(config: dict[str, Any]) -> Path:
    """The graph's file, which must be the one that the configuration was written for, where that says which.

    Where it is another one, Triton goes on with the version that it has loaded.
    """
    path = Path(pb_utils.get_model_dir()) / (config.get("default_model_filename") or "model.onnx")
    if not path.is_file():
        raise pb_utils.TritonModelException(f"unable to find '{path}' for model '{config['name']}'")
    expected = parameters_of(config).get("model_sha256")
    if expected and (found := hashlib.sha256(path.read_bytes()).hexdigest()) != expected:
        raise pb_utils.TritonModelException(
            f"model '{config['name']}': {path.parent.name}/{path.name}: expected SHA-256 {expected}, found {found}"
        )
    return path


def _is_complete(config: dict[str, Any]) -> bool:
    tensors = config["input"] + config["output"]
    described = all(tensor["dims"] and tensor["data_type"] != "TYPE_INVALID" for tensor in tensors)
    return bool(config["input"]) and bool(config["output"]) and described
