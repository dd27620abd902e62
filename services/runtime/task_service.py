"""What the four task services share: picture to tensors, tensors through the engine, in time, off the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc.aio
from numpy.typing import NDArray
from perception.scene import task_name
from perception.v1 import image_pb2, model_pb2, model_pb2_grpc, task_pb2

from services.runtime import images, logs, metrics
from services.runtime.engines import Engine, Model, Priority, create_engine
from services.runtime.errors import DeadlineExceeded, InvalidInput
from services.runtime.images import ImageLimits, Picture
from services.runtime.resize import Fit, fit
from services.runtime.server import Served, Service, run
from services.runtime.settings import TaskSettings, read_settings
from services.runtime.shared_pictures import SharedPictureReader
from services.runtime.timing import Deadline, StageClock, stage_name

Result = TypeVar("Result")
Tensors = Mapping[str, NDArray[Any]]

PRIORITY_KEY = "x-priority"
"""Metadata that says how urgent a request is: high, normal (where it is missing) or low."""


@dataclass(frozen=True)
class Run:
    """One picture that went through the model. outputs: by name, without the batch axis."""

    model: Model
    info: task_pb2.ModelInfo
    fit: Fit
    outputs: Tensors

    def image_size(self) -> image_pb2.ImageSize:
        """Size of the picture as displayed."""
        height, width = self.fit.picture_size
        return image_pb2.ImageSize(height=height, width=width)


class Call:
    """One request to a task service: its deadline, its clock, and how urgent it is."""

    def __init__(self, deadline: Deadline, clock: StageClock, priority: Priority, executor: ThreadPoolExecutor) -> None:
        self.deadline = deadline
        self.clock = clock
        self.priority = priority
        self._executor = executor

    async def work(self, stage: task_pb2.Stage, function: Callable[[], Result]) -> Result:
        """Runs a function on a worker thread as a stage of the request, if there is still time for it."""
        self.deadline.remaining(stage_name(stage))
        with self.clock.stage(stage):
            return await asyncio.get_running_loop().run_in_executor(self._executor, function)


class TaskRuntime:
    """Runs one task's model for the requests of its service."""

    def __init__(self, task: task_pb2.Task, settings: TaskSettings) -> None:
        self.settings = settings
        self._task = task
        self._engine: Engine = create_engine(settings, settings.model_name or task_name(task))
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._shared = SharedPictureReader(settings.shared_pictures_directory)
        self._executor = ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="worker")

    def call(self, context: grpc.aio.ServicerContext[Any, Any]) -> Call:
        """The call that a request is answered in."""
        deadline = Deadline.of(context, self.settings.default_timeout_seconds)
        return Call(deadline, StageClock(self._task), _priority(context), self._executor)

    async def decode(self, image: image_pb2.Image, call: Call) -> Picture:
        """The request's picture, RGB uint8 [H, W, 3]."""
        if image.HasField("shared"):
            return self._shared.read(image.shared)
        return await call.work(task_pb2.STAGE_DECODE, lambda: images.decode(image, self._limits))

    async def run(self, image: image_pb2.Image, call: Call) -> Run:
        """Decodes the request's picture, fits it to the model's input and runs the model."""
        picture = await self.decode(image, call)
        model = await self.model(call)
        tensor, placed = await call.work(
            task_pb2.STAGE_PREPROCESS, lambda: fit(picture, model.resize, model.input_size)
        )
        outputs, info = await self.infer(model, tensor[None] if model.max_batch_size else tensor, call)
        if model.max_batch_size:
            outputs = {name: tensor[0] for name, tensor in outputs.items()}
        return Run(model, info, placed, outputs)

    async def describe(self) -> Model:
        """The model as it is loaded now."""
        return await self._engine.describe()

    async def model(self, call: Call) -> Model:
        """The same for a request, which an engine that hangs holds no longer than its deadline."""
        try:
            async with asyncio.timeout(call.deadline.remaining("inference")):
                return await self.describe()
        except TimeoutError:
            raise DeadlineExceeded("inference") from None

    async def infer(self, model: Model, tensor: Picture, call: Call) -> tuple[Tensors, task_pb2.ModelInfo]:
        """Runs the model on its input tensor. The outputs by name, as the model gives them, and who computed them."""
        with call.clock.stage(task_pb2.STAGE_INFERENCE):
            inference = await self._engine.infer(
                {model.inputs[0].name: tensor},
                call.deadline.remaining("inference"),
                logs.request_id.get(),
                call.priority,
            )
        info = task_pb2.ModelInfo(
            task=self._task, name=model.name, version=inference.model_version, catalog_entry=model.catalog_entry
        )
        return inference.outputs, info

    async def ready(self) -> bool:
        """Whether the model answers."""
        ready = await self._engine.ready()
        metrics.MODEL_READY.labels(task_name(self._task)).set(ready)
        return ready

    async def close(self) -> None:
        """Gives back the engine and the threads."""
        await self._engine.close()
        self._executor.shutdown(wait=False, cancel_futures=True)


def serve_task(
    task: task_pb2.Task, service_name: str, purpose: str, register: Callable[[TaskRuntime, grpc.aio.Server], None]
) -> None:
    """Serves a task, and the description of its model, until SIGTERM.

    service_name: the full name of the task's gRPC service. register: adds its servicer to a server.
    """
    name = task_name(task)
    settings = read_settings(TaskSettings, f"services.{name}", purpose)

    async def build() -> Service:
        runtime = TaskRuntime(task, settings)
        describing = _ModelServicer(runtime, task)
        served = [
            Served(service_name, lambda server: register(runtime, server)),
            Served(
                "perception.v1.ModelService",
                lambda server: model_pb2_grpc.add_ModelServiceServicer_to_server(describing, server),
            ),
        ]
        return Service(served, runtime.ready, runtime.close)

    run(name, settings, build)


class _ModelServicer(model_pb2_grpc.ModelServiceServicer):
    def __init__(self, runtime: TaskRuntime, task: task_pb2.Task) -> None:
        self._runtime = runtime
        self._task = task

    async def DescribeModel(  # noqa: N802 - the RPC's name
        self, request: model_pb2.DescribeModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> model_pb2.DescribeModelResponse:
        model = await self._runtime.describe()
        height, width = (max(0, side) for side in model.input_size)
        return model_pb2.DescribeModelResponse(
            model=model_pb2.ModelDescription(
                info=task_pb2.ModelInfo(
                    task=self._task, name=model.name, version=model.version, catalog_entry=model.catalog_entry
                ),
                labels=model.labels,
                input_size=image_pb2.ImageSize(height=height, width=width),
                resize=model.resize.kind,
                weights_sha256=model.weights_sha256,
            )
        )


def _priority(context: grpc.aio.ServicerContext[Any, Any]) -> Priority:
    """What the request's metadata says. Raises `InvalidInput` for a word that is no priority."""
    word = dict(context.invocation_metadata() or ()).get(PRIORITY_KEY, "normal")
    try:
        return Priority[str(word).upper()]
    except KeyError:
        known = ", ".join(priority.name.lower() for priority in Priority)
        raise InvalidInput(PRIORITY_KEY, f"is {word!r}: expected one of {known}") from None


def score_threshold(request: Any, default: float) -> float:
    """The score threshold of a request that may name one. Raises `InvalidInput` when it is not within 0..1."""
    if not request.HasField("score_threshold"):
        return default
    threshold: float = request.score_threshold
    if not 0 <= threshold <= 1:  # NaN too
        raise InvalidInput("score_threshold", f"is {threshold}: expected 0 to 1")
    return threshold


def check_enumeration(message: Any, field: str) -> None:
    """Raises `InvalidInput` when an enumeration's field holds a value that this version does not know."""
    known = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    if getattr(message, field) not in known:
        expected = ", ".join(value.name for value in known.values())
        raise InvalidInput(field, f"is {getattr(message, field)}: expected one of {expected}")
