"""Calling the task services. Knows them by their API alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from perception.channels import channel_options
from perception.connections import open_async_channel
from perception.scene import task_name
from perception.tls import TLS
from perception.v1 import (
    classification_pb2,
    detection_pb2,
    instance_segmentation_pb2,
    model_pb2,
    model_pb2_grpc,
    semantic_segmentation_pb2,
    task_pb2,
)

from services.gateway.breaker import Breaker, Verdict
from services.gateway.pictures import Picture
from services.gateway.settings import GatewaySettings
from services.runtime import logs, metrics, tracing
from services.runtime.engines import Priority
from services.runtime.errors import InvalidInput, LimitExceeded, PictureNotShared
from services.runtime.interceptors import REQUEST_ID_KEY
from services.runtime.task_service import PRIORITY_KEY

Response = TypeVar("Response")

_SHARING_PAUSE_SECONDS = 60.0
"""A task that did not see shared memory is tried again after it."""

log = logging.getLogger(__name__)

TASKS: tuple[task_pb2.Task, ...] = (
    task_pb2.TASK_DETECTION,
    task_pb2.TASK_INSTANCE_SEGMENTATION,
    task_pb2.TASK_SEMANTIC_SEGMENTATION,
    task_pb2.TASK_CLASSIFICATION,
)

_METHODS: dict[task_pb2.Task, tuple[str, type[Message]]] = {
    task_pb2.TASK_DETECTION: ("perception.v1.DetectionService/Detect", detection_pb2.DetectResponse),
    task_pb2.TASK_INSTANCE_SEGMENTATION: (
        "perception.v1.InstanceSegmentationService/SegmentInstances",
        instance_segmentation_pb2.SegmentInstancesResponse,
    ),
    task_pb2.TASK_SEMANTIC_SEGMENTATION: (
        "perception.v1.SemanticSegmentationService/SegmentSemantics",
        semantic_segmentation_pb2.SegmentSemanticsResponse,
    ),
    task_pb2.TASK_CLASSIFICATION: (
        "perception.v1.ClassificationService/Classify",
        classification_pb2.ClassifyResponse,
    ),
}


@dataclass(frozen=True)
class Outcome(Generic[Response]):
    """How a task ended for one frame. answer: its response, None unless the status is OK."""

    status: task_pb2.TaskStatus
    answer: Response | None = None
    timings: tuple[task_pb2.StageTiming, ...] = field(default=())


def skipped(task: task_pb2.Task, reason: str) -> Outcome[Any]:
    """The outcome of a task that was not run."""
    status = task_pb2.TaskStatus(task=task, state=task_pb2.TASK_STATE_SKIPPED, reason=reason)
    _count(status)
    return Outcome(status)


def late(task: task_pb2.Task, reason: str) -> Outcome[Any]:
    """The outcome of a task for which no time was left."""
    state = task_pb2.TASK_STATE_DEADLINE_EXCEEDED
    status = task_pb2.TaskStatus(task=task, state=state, code=grpc.StatusCode.DEADLINE_EXCEEDED.name, reason=reason)
    _count(status)
    return Outcome(status)


def had_no_time(status: task_pb2.TaskStatus) -> bool:
    """Whether a task was late, or refused the frame because it would have been."""
    late = status.state == task_pb2.TASK_STATE_DEADLINE_EXCEEDED
    return late or status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.name


class TaskClient:
    """One task service, over one channel that finds it again by itself."""

    def __init__(self, task: task_pb2.Task, address: str, max_message_bytes: int, tls: TLS | None = None) -> None:
        self.task = task
        self._address = address
        self._channel = open_async_channel(address, _options(max_message_bytes), tls)
        self._name, answer = _METHODS[task]
        # For requests that are serialized already.
        self._method: Callable[..., Awaitable[Any]] = self._channel.unary_unary(
            f"/{self._name}", response_deserializer=answer.FromString
        )
        self._models: model_pb2_grpc.ModelServiceAsyncStub = model_pb2_grpc.ModelServiceStub(self._channel)
        self._health: health_pb2_grpc.HealthStub = health_pb2_grpc.HealthStub(self._channel)
        self._last_model: model_pb2.ModelDescription | None = None
        self._breaker = Breaker(task_name(task))
        self._sends_until = 0.0

    async def call(
        self, picture: Picture, request: Message, timeout_seconds: float, priority: Priority = Priority.NORMAL
    ) -> Outcome[Any]:
        """Asks the task; a task that is late or fails is an outcome, not an error.

        request: everything but the picture.

        Raises `InvalidInput` and `LimitExceeded` where the task says that the caller's picture is at fault.
        """
        about: tracing.Attributes = {
            "server.address": self._address,
            "perception.task": task_name(self.task),
            "perception.budget_seconds": timeout_seconds,
        }
        with tracing.tracer.call(self._name, about) as span:
            outcome = await self._outcome(picture, request.SerializeToString(), timeout_seconds, priority)
            status = outcome.status
            span.set("perception.task_state", _state(status))
            if outcome.answer is None:
                span.fail(status.code, status.reason)
        _count(status)
        return outcome

    async def _outcome(
        self, picture: Picture, request: bytes, timeout_seconds: float, priority: Priority
    ) -> Outcome[Any]:
        if not self._breaker.admits():
            return Outcome(self._failed(grpc.StatusCode.UNAVAILABLE, self._breaker.reason))
        verdict, reason = Verdict.UNKNOWN, ""
        try:
            outcome = await self._ask_sparingly(picture, request, timeout_seconds, priority)
            verdict = Verdict.WORKS
        except grpc.aio.AioRpcError as error:
            verdict, reason = Verdict.of(error.code(), timeout_seconds), error.details() or error.code().name
            _raise_fault_of_caller(error)
            return Outcome(self._failed(error.code(), _in_words(error, timeout_seconds)))
        finally:
            self._breaker.ended(verdict, reason)
        return outcome

    async def _ask_sparingly(
        self, picture: Picture, request: bytes, timeout_seconds: float, priority: Priority
    ) -> Outcome[Any]:
        """Asks with the picture in shared memory, and with all of its bytes where the task does not see that memory."""
        started = time.monotonic()
        if picture.memory and started >= self._sends_until:
            try:
                return await self._ask(picture.as_shared + request, timeout_seconds, priority)
            except grpc.aio.AioRpcError as error:
                if _error_info(error).reason != PictureNotShared.reason:
                    raise
                log.warning("%s is sent whole pictures: %s", task_name(self.task), error.details())
                self._sends_until = time.monotonic() + _SHARING_PAUSE_SECONDS
                timeout_seconds -= time.monotonic() - started
        return await self._ask(picture.as_sent + request, timeout_seconds, priority)

    async def _ask(self, request: bytes, timeout_seconds: float, priority: Priority) -> Outcome[Any]:
        metadata = (
            (REQUEST_ID_KEY, logs.request_id.get()),
            (PRIORITY_KEY, priority.name.lower()),
            *tracing.tracer.headers(),
        )
        started = time.perf_counter()
        answer = await self._method(request, timeout=timeout_seconds, metadata=metadata)
        took = round((time.perf_counter() - started) * 1e6)
        call = task_pb2.StageTiming(task=self.task, stage=task_pb2.STAGE_CALL, microseconds=took)
        status = task_pb2.TaskStatus(task=self.task, state=task_pb2.TASK_STATE_OK)
        return Outcome(status, answer, (*answer.timings, call))

    def _failed(self, code: grpc.StatusCode, details: str) -> task_pb2.TaskStatus:
        late = code is grpc.StatusCode.DEADLINE_EXCEEDED
        return task_pb2.TaskStatus(
            task=self.task,
            state=task_pb2.TASK_STATE_DEADLINE_EXCEEDED if late else task_pb2.TASK_STATE_FAILED,
            code=code.name,
            reason=f"{task_name(self.task)} at {self._address}: {details}",
        )

    async def describe(self, timeout_seconds: float) -> tuple[model_pb2.ModelDescription | None, str]:
        """The task's model, as last seen, and why the task is not ready: empty when it is."""
        try:
            response = await self._models.DescribeModel(model_pb2.DescribeModelRequest(), timeout=timeout_seconds)
            self._last_model = response.model
            health = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            return self._last_model, f"{error.code().name}: {error.details()}"
        ready = health.status == health_pb2.HealthCheckResponse.SERVING
        return self._last_model, "" if ready else "its model does not answer"

    async def serving(self, timeout_seconds: float) -> bool:
        """Whether the task's service says that it serves."""
        try:
            health = await self._health.Check(health_pb2.HealthCheckRequest(), timeout=timeout_seconds)
        except grpc.aio.AioRpcError:
            return False
        return bool(health.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


def connect(settings: GatewaySettings) -> Mapping[task_pb2.Task, TaskClient]:
    """A client for each task that the settings give an address, in the order of the enumeration."""
    addresses = {task: getattr(settings, f"{task_name(task)}_url") for task in TASKS}
    return {
        task: TaskClient(task, address, settings.max_message_bytes, settings.tls_as_caller)
        for task, address in addresses.items()
        if address
    }


def _options(max_message_bytes: int) -> list[tuple[str, str | int]]:
    return [
        *channel_options(max_message_bytes),
        # A service that comes back is found within a second.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]


def _in_words(error: grpc.aio.AioRpcError, timeout_seconds: float) -> str:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer within {timeout_seconds:.3f} s"
    return error.details() or ""


def _count(status: task_pb2.TaskStatus) -> None:
    metrics.TASK_RESULTS.labels(task_name(status.task), _state(status), status.code).inc()


def _state(status: task_pb2.TaskStatus) -> str:
    return task_pb2.TaskState.Name(status.state).removeprefix("TASK_STATE_")


def _raise_fault_of_caller(error: grpc.aio.AioRpcError) -> None:
    """A picture that a task cannot take is the caller's error, and every other task would say the same."""
    info = _error_info(error)
    fault = info.metadata.get("field", "")
    description = (error.details() or "").removeprefix(f"{fault}: ")
    if info.reason == InvalidInput.reason:
        raise InvalidInput(fault, description)
    if info.reason == LimitExceeded.reason:
        limit = int(info.metadata["limit"])
        description = description.removesuffix(f", the limit is {limit}")
        raise LimitExceeded(fault, description, limit, info.metadata["setting"])


def _error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """What a program can read of an error; empty where there is nothing."""
    info = error_details_pb2.ErrorInfo()
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        return info
    for detail in status.details if status else ():
        if detail.Unpack(info):
            break
    return info
