"""Runs a model in this process, where no Triton runs: the same repository, the same answers."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import np_to_triton_dtype

from services.runtime import tracing
from services.runtime.engines.base import Inference, Model, Priority
from services.runtime.engines.probe import probe_inputs
from services.runtime.errors import (
    ContractViolation,
    DeadlineExceeded,
    InferenceFailed,
    ModelUnavailable,
    Overloaded,
    ServiceError,
)
from services.runtime.model_contract import model_from_config
from services.runtime.slots import Slots

if TYPE_CHECKING:
    import onnxruntime

_QUEUE_LIMIT = 64
"""Inferences that may wait for a thread where the configuration names no max_queue_size."""


class OnnxRuntimeEngine:
    """An `Engine` that runs a model of a model repository with the onnxruntime package.

    The model is loaded at the first call, in its highest version, and stays. Each instance of `instance_group` is a
    thread; requests are not batched.
    """

    def __init__(self, repository: Path, model_name: str) -> None:
        self._folder = repository / model_name
        self._name = model_name
        self._loading: asyncio.Task[_LoadedModel] | None = None

    async def describe(self) -> Model:
        """See `Engine.describe`."""
        return (await self._load()).model

    async def infer(
        self,
        inputs: Mapping[str, NDArray[np.generic]],
        timeout_seconds: float,
        request_id: str = "",
        priority: Priority = Priority.NORMAL,
    ) -> Inference:
        """See `Engine.infer`. Raises `Overloaded` where too many inferences wait already."""
        deadline = time.monotonic() + timeout_seconds
        try:
            async with asyncio.timeout(timeout_seconds):
                loaded = await self._load()
        except TimeoutError as error:
            raise DeadlineExceeded("inference") from error
        return await loaded.infer(inputs, deadline, priority)

    async def ready(self) -> bool:
        """See `Engine.ready`. A model that answered once goes on answering, because it shares this process."""
        try:
            loaded = await self._load()
            if not loaded.proven:
                await loaded.infer(probe_inputs(loaded.model), time.monotonic() + 10.0, Priority.NORMAL)
        except ServiceError:
            return False
        return True

    async def close(self) -> None:
        """See `Engine.close`."""
        loading, self._loading = self._loading, None
        if loading is None:
            return
        try:
            loaded = await loading
        except ServiceError:
            return
        loaded.pool.shutdown(wait=False, cancel_futures=True)

    async def _load(self) -> _LoadedModel:
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(_LoadedModel, self._folder, self._name))
        loading = self._loading
        try:
            # A caller that goes away does not take the load with it.
            return await asyncio.shield(loading)
        except Exception:  # whatever it was, the next call tries again
            if self._loading is loading:
                self._loading = None
            raise


class _LoadedModel:
    """A session, and the threads that run it."""

    def __init__(self, folder: Path, name: str) -> None:
        ort = _import_onnxruntime(name)
        config = _read_config(folder, name)
        version = _highest_version(folder, name)
        self.model = model_from_config(config, version)
        path = folder / version / (config.default_model_filename or "model.onnx")
        try:
            options = session_options(config)
            self._session = ort.InferenceSession(_graph(config, path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base
            raise ModelUnavailable(name, f"version {version} does not load: {error}") from error
        self._ort = ort
        self._outputs = [tensor.name for tensor in self.model.outputs]
        instances = max(1, sum(group.count or 1 for group in config.instance_group))
        self._queue_limit = config.dynamic_batching.default_queue_policy.max_queue_size or _QUEUE_LIMIT
        self._room = instances + self._queue_limit
        self._threads = Slots(instances)
        self.pool = ThreadPoolExecutor(instances, thread_name_prefix=f"onnxruntime-{name}")
        self.proven = False

    async def infer(self, inputs: Mapping[str, NDArray[np.generic]], deadline: float, priority: Priority) -> Inference:
        """Runs the model in one of the threads; ends the run where it does not keep `deadline` (monotonic seconds)."""
        name = self.model.name
        _check_inputs(self.model, inputs)
        if self._room == 0:
            raise Overloaded(f"model {name!r}: {self._queue_limit} requests wait already", retry_after_seconds=0.1)
        run_options = self._ort.RunOptions()
        self._room -= 1
        running: asyncio.Future[list[NDArray[np.generic]]] | None = None
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                with tracing.tracer.span("queue"):
                    await self._threads.take((priority,))
                running = asyncio.get_running_loop().run_in_executor(
                    self.pool, self._run, inputs, run_options, deadline
                )
                running.add_done_callback(self._make_room)
                with tracing.tracer.span("compute"):
                    outputs = await asyncio.shield(running)
        except (TimeoutError, asyncio.CancelledError) as error:
            if running is None:
                self._room += 1
            # Seen by onnxruntime between two nodes of the graph.
            run_options.terminate = True
            if isinstance(error, asyncio.CancelledError):
                raise
            raise DeadlineExceeded("inference") from error
        self.proven = True
        return Inference(dict(zip(self._outputs, outputs, strict=True)), self.model.version)

    def _run(
        self, inputs: Mapping[str, NDArray[np.generic]], options: onnxruntime.RunOptions, deadline: float
    ) -> list[NDArray[np.generic]]:
        if options.terminate or time.monotonic() >= deadline:
            raise DeadlineExceeded("inference")
        try:
            outputs: list[NDArray[np.generic]] = self._session.run(self._outputs, dict(inputs), options)
        except Exception as error:  # onnxruntime's errors have no common base
            raise InferenceFailed(self.model.name, f"failed in ONNX Runtime: {error}") from error
        return outputs

    def _make_room(self, running: asyncio.Future[list[NDArray[np.generic]]]) -> None:
        self._room += 1
        self._threads.give_back()
        if not running.cancelled():
            running.exception()  # fetched, because nobody waits any more for a run that missed its deadline


def _graph(config: ModelConfig, path: Path) -> bytes | Path:
    """The graph, which must be the one that the configuration was written for where that says which; else its path.

    Raises `ValueError` where it is another one.
    """
    if "model_sha256" not in config.parameters:
        return path
    expected, content = config.parameters["model_sha256"].string_value, path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ValueError(f"expected SHA-256 {expected}, found {found}")
    return content


def session_options(config: ModelConfig) -> onnxruntime.SessionOptions:
    """The session options that a model configuration asks for, as Triton's onnxruntime backend reads them.

    What it leaves out stays at ONNX Runtime's default. Raises `ValueError` naming the parameter that is not understood.
    """
    import onnxruntime as ort

    parameters = {name: value.string_value for name, value in config.parameters.items()}
    options = ort.SessionOptions()
    if threads := _integer(parameters, "intra_op_thread_count"):
        options.intra_op_num_threads = threads
    if threads := _integer(parameters, "inter_op_thread_count"):
        options.inter_op_num_threads = threads
    modes = {0: ort.ExecutionMode.ORT_SEQUENTIAL, 1: ort.ExecutionMode.ORT_PARALLEL}
    mode = _integer(parameters, "execution_mode")
    if mode not in modes:
        raise ValueError(f"parameter 'execution_mode': expected 0 (sequential) or 1 (parallel), found {mode}")
    options.execution_mode = modes[mode]
    if "enable_mem_arena" in parameters:
        options.enable_cpu_mem_arena = _boolean(parameters, "enable_mem_arena")
    if "enable_mem_pattern" in parameters:
        options.enable_mem_pattern = _boolean(parameters, "enable_mem_pattern")
    levels = {
        -1: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
        1: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        2: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    options.graph_optimization_level = levels.get(
        config.optimization.graph.level, ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    )
    # Threads that wait for work sleep instead of spinning, because several models share the processor here: two YOLOv8n
    # of two threads each, on two busy cores, take 135 ms of processor time per frame instead of 245.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _integer(parameters: Mapping[str, str], name: str) -> int:
    text = parameters.get(name, "0")
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"parameter '{name}': expected an integer, found '{text}'") from None


def _boolean(parameters: Mapping[str, str], name: str) -> bool:
    text = parameters[name].lower()
    if text not in ("0", "1", "false", "true"):
        raise ValueError(f"parameter '{name}': expected true or false, found '{text}'")
    return text in ("1", "true")


def _import_onnxruntime(name: str) -> onnxruntime:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelUnavailable(
            name, "the in-process engine needs the onnxruntime package: pip install 'perception-services[local]'"
        ) from error
    return onnxruntime


def _read_config(folder: Path, name: str) -> ModelConfig:
    path = folder / "config.pbtxt"
    try:
        config = text_format.Parse(path.read_text(), ModelConfig())
    except OSError as error:
        raise ModelUnavailable(name, f"{path} cannot be read: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ContractViolation(name, f"{path} is no model configuration: {error}") from error
    config.name = config.name or name
    return config


def _highest_version(folder: Path, name: str) -> str:
    versions = [path.name for path in folder.iterdir() if path.is_dir() and path.name.isdigit() and path.name != "0"]
    if not versions:
        raise ModelUnavailable(name, f"{folder} holds no version: expected a folder with a number for a name")
    return max(versions, key=int)


def _check_inputs(model: Model, inputs: Mapping[str, NDArray[np.generic]]) -> None:
    """Refuses what Triton refuses before it runs a model."""
    if set(inputs) != {tensor.name for tensor in model.inputs}:
        expected = ", ".join(tensor.name for tensor in model.inputs)
        raise ContractViolation(model.name, f"expected the inputs {expected}, found {', '.join(inputs) or 'none'}")
    for tensor in model.inputs:
        array = inputs[tensor.name]
        expected_shape = (-1, *tensor.shape) if model.max_batch_size > 0 else tensor.shape
        datatype = np_to_triton_dtype(array.dtype)
        same_rank = len(array.shape) == len(expected_shape)
        if (
            datatype != tensor.datatype
            or not same_rank
            or not all(a in (b, -1) for a, b in zip(expected_shape, array.shape, strict=True))
        ):
            raise ContractViolation(
                model.name,
                f"input {tensor.name!r}: expected {tensor.datatype} {list(expected_shape)}, "
                f"found {datatype} {list(array.shape)}",
            )
        if model.max_batch_size > 0 and not 1 <= array.shape[0] <= model.max_batch_size:
            raise ContractViolation(
                model.name, f"expected a batch of 1 to {model.max_batch_size}, found {array.shape[0]}"
            )
