"""Runs a model in a Triton inference server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from perception.channels import channel_options
from perception.connections import open_async_channel
from perception.tls import TLS
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.runtime import metrics, tracing
from services.runtime.engines.base import Inference, Model, Priority
from services.runtime.engines.probe import probe_inputs
from services.runtime.engines.triton_errors import REGION_UNKNOWN, error_from_status
from services.runtime.engines.triton_messages import infer_request, outputs_of
from services.runtime.engines.triton_recovery import Recovery
from services.runtime.engines.triton_shared_inputs import Place, SharedInputs
from services.runtime.errors import DeadlineExceeded, ModelUnavailable, Overloaded, ServiceError
from services.runtime.model_contract import model_from_config

_CHANNEL_OPTIONS = (
    # Behind a headless Service the channel spreads calls over all of Triton's pods and follows their coming and going.
    *channel_options(256 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
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


class TritonEngine:
    """An `Engine` that calls a Triton server by gRPC.

    It may be created before the server runs and outlives the server's restarts.
    """

    def __init__(
        self,
        url: str,
        model_name: str,
        tls: TLS | None = None,
        *,
        reloads: bool = False,
        shared_memory: Path | None = None,
    ) -> None:
        """url: gRPC target, such as `127.0.0.1:8001` or `dns:///triton-headless:8001`. tls: none: plain text.

        reloads: whether `ready` sees to it that a model whose process died is loaded again; for one server under
        explicit model control, because of several only one would be told. shared_memory: the folder, /dev/shm, where
        inputs lie for one server of this machine; none: they are sent.
        """
        self._url = url
        self._tls = tls
        self._recovery = Recovery(model_name, self._works, self.reload) if reloads else None
        self._shared = SharedInputs(model_name, shared_memory, self._control) if shared_memory is not None else None
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
        metadata, answer = await asyncio.gather(
            self._control("ModelMetadata", service_pb2.ModelMetadataRequest(name=self._name)),
            self._control("ModelConfig", service_pb2.ModelConfigRequest(name=self._name)),
        )
        if not metadata.versions:
            raise ModelUnavailable(self._name, "no version of it is ready")
        model = model_from_config(answer.config, max(metadata.versions, key=int))
        if self._shared is not None:
            await (self._shared.close() if answer.config.response_cache.enable else self._shared.introduce(model))
        return model

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
        try:
            with tracing.tracer.call(_MODEL_INFER, {"server.address": self._url, "perception.model": self._name}):
                response = await self._answer(inputs, timeout_seconds, request_id, priority)
            outputs = outputs_of(self._name, response)
        except ServiceError as error:
            if not isinstance(error, _INCONCLUSIVE):
                self._model = None
                self._last_success = float("-inf")
            raise
        self._last_success = time.monotonic()
        if self._model is not None and response.model_version != self._model.version:
            self._model = None
        return Inference(outputs, response.model_version)

    async def _answer(
        self,
        inputs: Mapping[str, NDArray[np.generic]],
        timeout_seconds: float,
        request_id: str,
        priority: Priority,
    ) -> Any:
        """Triton's answer to inputs that it finds in shared memory, or gets sent where it does not."""
        end = time.monotonic() + timeout_seconds
        if self._shared is not None and (places := self._shared.put(inputs)):
            try:
                return await self._ask(inputs, places, end, request_id, priority)
            except ModelUnavailable as error:
                if REGION_UNKNOWN not in str(error):
                    raise
                self._shared.lost(places)
            finally:
                # Whether it was answered, or given up while Triton may still read: see triton_shared_inputs.
                for place in places.values():
                    place.give_back()
        return await self._ask(inputs, {}, end, request_id, priority)

    async def _ask(
        self,
        inputs: Mapping[str, NDArray[np.generic]],
        places: Mapping[str, Place],
        end: float,
        request_id: str,
        priority: Priority,
    ) -> Any:
        remaining = end - time.monotonic()
        message = infer_request(self._name, inputs, places, remaining, request_id, priority)
        metrics.MODEL_INPUTS.labels(self._name, "shared" if places else "sent").inc()
        # Of a request that is serialized already.
        infer: Any = self._open_channel().unary_unary(
            _MODEL_INFER, response_deserializer=service_pb2.ModelInferResponse.FromString
        )
        return await self._call(infer, message, remaining, _trace_headers())

    async def ready(self) -> bool:
        """See `Engine.ready`.

        Triton calls a model ready whose process has died, so its word is not enough: a success of the last ten seconds
        counts, and where there is none, an inference on a black picture, at most once a second.
        """
        try:
            if not await self._is_said_to_be_ready():
                return False
        except ServiceError:
            return False
        try:
            return self._has_evidence() or await self._probe()
        except ModelUnavailable:
            if self._recovery is not None:
                self._recovery.begin()
            return False
        except ServiceError:
            return False

    async def _is_said_to_be_ready(self) -> bool:
        answer = await self._control("ModelReady", service_pb2.ModelReadyRequest(name=self._name))
        return bool(answer.ready)

    async def _works(self) -> bool:
        """Whether Triton calls the model ready, and an inference shows that it is."""
        try:
            if not await self._is_said_to_be_ready():
                return False
            await self._infer_on_black()
        except ServiceError:
            return False
        return True

    def _has_evidence(self) -> bool:
        return time.monotonic() - self._last_success < _EVIDENCE_SECONDS

    async def _probe(self) -> bool:
        async with self._probe_lock:
            if self._has_evidence():
                return True
            if time.monotonic() - self._last_probe < _PROBE_INTERVAL_SECONDS:
                return False
            self._last_probe = time.monotonic()
            await self._infer_on_black()
            return True

    async def _infer_on_black(self) -> None:
        await self.infer(probe_inputs(await self.describe()), _PROBE_TIMEOUT_SECONDS, "readiness-probe")

    async def reload(self) -> None:
        """Unloads the model and loads it again, which is what replaces a model process that died.

        For a server under explicit model control. The model is not served in between. Raises as `describe` does.
        """
        self._model = None
        self._last_success = self._last_probe = float("-inf")
        unload = service_pb2.RepositoryModelUnloadRequest(model_name=self._name)
        await self._control("RepositoryModelUnload", unload, _LOAD_TIMEOUT_SECONDS)
        load = service_pb2.RepositoryModelLoadRequest(model_name=self._name)
        await self._control("RepositoryModelLoad", load, _LOAD_TIMEOUT_SECONDS)

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._recovery is not None:
            await self._recovery.close()
        if self._shared is not None:
            await self._shared.close()
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def _open_channel(self) -> grpc.aio.Channel:
        # Not in the constructor: a channel belongs to the event loop in which it is made.
        if self._channel is None:
            self._channel = open_async_channel(self._url, _CHANNEL_OPTIONS, self._tls)
        return self._channel

    async def _control(self, method: str, request: Any, timeout_seconds: float = _CONTROL_TIMEOUT_SECONDS) -> Any:
        """Calls a method of Triton by its name. Raises `ServiceError`."""
        stub = service_pb2_grpc.GRPCInferenceServiceStub(self._open_channel())
        return await self._call(getattr(stub, method), request, timeout_seconds)

    async def _call(
        self,
        method: Any,
        request: Any,
        timeout_seconds: float,
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> Any:
        try:
            return await method(request, timeout=timeout_seconds, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_from_status(self._name, error.code(), error.details() or "") from error


def _trace_headers() -> tuple[tuple[str, str], ...]:
    """The current span for Triton, which records every trace that it is told of, sampled or not."""
    return tracing.tracer.headers() if tracing.tracer.trace_id() else ()
