"""Runs a model in a Triton inference server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from perception.channels import channel_options
from perception.connections import open_async_channel
from perception.tls import TLS
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from services.runtime import tracing
from services.runtime.engines.base import Inference, Model, Priority
from services.runtime.engines.probe import probe_inputs
from services.runtime.engines.triton_errors import error_from_status
from services.runtime.errors import (
    ContractViolation,
    DeadlineExceeded,
    InferenceFailed,
    ModelUnavailable,
    Overloaded,
    ServiceError,
)
from services.runtime.model_contract import model_from_config

_CHANNEL_OPTIONS = (
    # Behind a headless Service the channel spreads calls over all of Triton's pods and follows their coming and going.
    *channel_options(256 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A node that vanished without a word is noticed within 15 s of the last call to it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)

_MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"

_CONTROL_TIMEOUT_SECONDS = 2.0
"""How long Triton may take to answer a question about a model."""

_PROBE_TIMEOUT_SECONDS = 5.0
"""How long an inference may take that proves that the model works."""

_LOAD_TIMEOUT_SECONDS = 120.0

_DESCRIPTION_SECONDS = 10.0
"""How long a description is believed while no answer contradicts it."""

_EVIDENCE_SECONDS = 10.0
"""How long a successful inference proves that the model works."""

_PROBE_INTERVAL_SECONDS = 1.0
"""How often at most `ready` runs an inference of its own."""

_INCONCLUSIVE = (DeadlineExceeded, Overloaded)
"""Failures that do not speak against the model: it is busy."""

_RAW_INPUT_TAG = bytes([service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | 2])


class TritonEngine:
    """An `Engine` that calls a Triton server by gRPC.

    It may be created before the server runs and outlives the server's restarts.
    """

    def __init__(self, url: str, model_name: str, tls: TLS | None = None) -> None:
        """url: gRPC target, such as `127.0.0.1:8001` or `dns:///triton-headless:8001`. tls: none: plain text."""
        self._url = url
        self._tls = tls
        self._name = model_name
        self._channel: grpc.aio.Channel | None = None
        self._model: Model | None = None
        self._described_at = 0.0
        self._last_success = float("-inf")
        self._last_probe = float("-inf")
        self._probe_lock = asyncio.Lock()

    async def describe(self) -> Model:
        """See `Engine.describe`. Triton is asked again after an error, a new version, and every ten seconds."""
        if self._model is None or time.monotonic() - self._described_at > _DESCRIPTION_SECONDS:
            self._model = await self._ask_for_description()
            self._described_at = time.monotonic()
        return self._model

    async def _ask_for_description(self) -> Model:
        self._model = None
        stub = self._stub()
        metadata, answer = await asyncio.gather(
            self._call(stub.ModelMetadata, service_pb2.ModelMetadataRequest(name=self._name)),
            self._call(stub.ModelConfig, service_pb2.ModelConfigRequest(name=self._name)),
        )
        if not metadata.versions:
            raise ModelUnavailable(self._name, "no version of it is ready")
        return model_from_config(answer.config, max(metadata.versions, key=int))

    async def infer(
        self,
        inputs: Mapping[str, NDArray[np.generic]],
        timeout_seconds: float,
        request_id: str = "",
        priority: Priority = Priority.NORMAL,
    ) -> Inference:
        """See `Engine.infer`.

        The arrays of the answer are read-only views of the received message. Triton itself gives up a request that
        still waits in its queue after `timeout_seconds` where the model's queue policy allows it to, and heeds the
        priority where the model's batching has `priority_levels`.
        """
        if timeout_seconds <= 0:
            raise DeadlineExceeded("inference")
        message = _request(self._name, inputs, timeout_seconds, request_id, priority)
        try:
            with tracing.tracer.call(_MODEL_INFER, {"server.address": self._url, "perception.model": self._name}):
                response = await self._call(self._model_infer(), message, timeout_seconds, _trace_headers())
            outputs = _outputs(self._name, response)
        except ServiceError as error:
            if not isinstance(error, _INCONCLUSIVE):
                self._model = None
                self._last_success = float("-inf")
            raise
        self._last_success = time.monotonic()
        if self._model is not None and response.model_version != self._model.version:
            self._model = None
        return Inference(outputs, response.model_version)

    async def ready(self) -> bool:
        """See `Engine.ready`.

        Triton calls a model ready whose process has died, so its word is not enough: a success of the last ten seconds
        counts, and where there is none, an inference on a black picture, at most once a second.
        """
        try:
            request = service_pb2.ModelReadyRequest(name=self._name)
            answer = await self._call(self._stub().ModelReady, request)
            return bool(answer.ready) and (self._has_evidence() or await self._probe())
        except ServiceError:
            return False

    def _has_evidence(self) -> bool:
        return time.monotonic() - self._last_success < _EVIDENCE_SECONDS

    async def _probe(self) -> bool:
        async with self._probe_lock:
            if self._has_evidence():
                return True
            if time.monotonic() - self._last_probe < _PROBE_INTERVAL_SECONDS:
                return False
            self._last_probe = time.monotonic()
            await self.infer(probe_inputs(await self.describe()), _PROBE_TIMEOUT_SECONDS, "readiness-probe")
            return True

    async def reload(self) -> None:
        """Unloads the model and loads it again, which is what replaces a model process that died.

        For a server under explicit model control. The model is not served in between. Raises as `describe` does.
        """
        stub = self._stub()
        self._model = None
        self._last_success = self._last_probe = float("-inf")
        unload = service_pb2.RepositoryModelUnloadRequest(model_name=self._name)
        await self._call(stub.RepositoryModelUnload, unload, _LOAD_TIMEOUT_SECONDS)
        load = service_pb2.RepositoryModelLoadRequest(model_name=self._name)
        await self._call(stub.RepositoryModelLoad, load, _LOAD_TIMEOUT_SECONDS)

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def _open_channel(self) -> grpc.aio.Channel:
        # Not in the constructor: a channel belongs to the event loop in which it is made.
        if self._channel is None:
            self._channel = open_async_channel(self._url, _CHANNEL_OPTIONS, self._tls)
        return self._channel

    def _stub(self) -> Any:
        return service_pb2_grpc.GRPCInferenceServiceStub(self._open_channel())

    def _model_infer(self) -> Any:
        """The method ModelInfer for a request that is serialized already."""
        return self._open_channel().unary_unary(
            _MODEL_INFER,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )

    async def _call(
        self,
        method: Any,
        request: Any,
        timeout_seconds: float = _CONTROL_TIMEOUT_SECONDS,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        try:
            return await method(request, timeout=timeout_seconds, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_from_status(self._name, error.code(), error.details() or "") from error


def _trace_headers() -> tuple[tuple[str, str], ...]:
    """The current span for Triton, which records every trace that it is told of, sampled or not."""
    return tracing.tracer.headers() if tracing.tracer.trace_id() else ()


def _request(
    name: str, inputs: Mapping[str, NDArray[np.generic]], timeout_seconds: float, request_id: str, priority: Priority
) -> bytes:
    """A serialized ModelInferRequest.

    The pictures are appended as they lie in memory, since protobuf messages may be concatenated; handing them to
    protobuf costs 2 ms of copying for 640x640x3 bytes, appending them 0.1 ms.
    """
    request = service_pb2.ModelInferRequest(model_name=name, id=request_id)
    request.parameters["timeout"].int64_param = int(timeout_seconds * 1e6)
    request.parameters["priority"].uint64_param = priority
    parts: list[bytes | memoryview] = [b""]
    for tensor, array in inputs.items():
        request.inputs.add(name=tensor, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        contents = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        parts += (_RAW_INPUT_TAG, _varint(contents.nbytes), contents)
    parts[0] = request.SerializeToString()
    return b"".join(parts)


def _varint(value: int) -> bytes:
    """Protobuf's encoding of a whole number: seven bits a byte, the lowest first, the top bit set on all but one."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _outputs(name: str, response: Any) -> dict[str, NDArray[np.generic]]:
    """The answer's tensors by name, as views of its raw contents."""
    if len(response.raw_output_contents) != len(response.outputs):
        found = f"{len(response.raw_output_contents)} raw contents for {len(response.outputs)} outputs"
        raise InferenceFailed(name, f"the answer holds {found}")
    outputs: dict[str, NDArray[np.generic]] = {}
    for tensor, contents in zip(response.outputs, response.raw_output_contents, strict=True):
        dtype = np.dtype(triton_to_np_dtype(tensor.datatype))
        shape = tuple(tensor.shape)
        if dtype.hasobject or len(contents) != dtype.itemsize * int(np.prod(shape)):
            raise ContractViolation(
                name, f"output {tensor.name!r}: expected {tensor.datatype} {list(shape)}, found {len(contents)} bytes"
            )
        outputs[tensor.name] = np.frombuffer(contents, dtype).reshape(shape)
    return outputs
