"""Connections to a task service and to a gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc
from perception import PerceptionClient, PerceptionError, Scene
from perception.caller import Caller
from perception.connections import open_channel
from perception.scene import task_name
from perception.v1 import model_pb2, model_pb2_grpc, task_pb2

from models.evaluation.result import EvaluationError

CALL_SECONDS = 60.0
"""A frame's deadline: generous, so that a slow machine does not change what is measured."""

_MEBIBYTE = 2**20
_OPTIONS: list[tuple[str, str | int]] = [
    ("grpc.max_receive_message_length", 64 * _MEBIBYTE),
    ("grpc.max_send_message_length", 64 * _MEBIBYTE),
]

Response = TypeVar("Response")


class TaskConnection:
    """A channel to one task service, safe to share between threads.

    caller: who calls; a task is shown the certificate alone, as tokens are for gateways. model: what the service says
    about its model.

    Raises:
        EvaluationError: nothing answers there, or a service of another task.
    """

    def __init__(self, task: str, address: str, caller: Caller) -> None:
        self.task, self.address = task, address
        self.channel = open_channel(address, _OPTIONS, caller.tls)
        request = model_pb2.DescribeModelRequest()
        self.model = self.call(model_pb2_grpc.ModelServiceStub(self.channel).DescribeModel, request).model
        found = task_pb2.Task.Name(self.model.info.task).removeprefix("TASK_").lower()
        if found != task:
            raise EvaluationError(f"{address}: expected a service for {task}, found one for {found}")

    def call(self, method: Callable[..., Response], request: object) -> Response:
        """Call a method of a stub on this channel. Raises `EvaluationError` naming task, address, code and reason."""
        try:
            return method(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            raise EvaluationError(f"{self.task} at {self.address}: {error.code().name}: {error.details()}") from error


class GatewayConnection:
    """A connection to a gateway, safe to share between threads.

    client: calls it. tasks: those of the system by name. categories: those of its taxonomy.

    Raises:
        EvaluationError: nothing answers there, or a task of the system is not ready.
    """

    def __init__(self, address: str, caller: Caller) -> None:
        self.client = PerceptionClient(address, tls=caller.tls, token=caller.token)
        try:
            described = self.client.describe()
        except PerceptionError as error:
            raise EvaluationError(f"gateway at {address}: {error.code.name}: {error}") from error
        self.tasks = {task_name(task.task): task for task in described.tasks}
        self.categories = tuple(described.categories)
        for name, task in self.tasks.items():
            if not task.ready:
                raise EvaluationError(f"gateway at {address}: {name} is not ready: {task.reason}")


def failed_tasks(scene: Scene) -> str:
    """Why a scene is not what the system can do: its tasks that failed, each with its reason; empty where none did."""
    return ", ".join(
        f"{task} {status.state}: {status.reason}"
        for task, status in scene.task_status.items()
        if status.state not in ("OK", "SKIPPED")
    )
