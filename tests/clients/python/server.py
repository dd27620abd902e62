"""A gateway small enough to stand in a test: a real gRPC server that answers one scene or one error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_status import rpc_status
from perception.v1 import perception_pb2, perception_pb2_grpc

from services.runtime.errors import Stopping
from services.runtime.status import error_status
from tests.clients.python.scenes import response

Behaviour = Callable[[grpc.ServicerContext], None]


class Gateway(perception_pb2_grpc.PerceptionServiceServicer):
    """Answers the scene of `scenes.response`; keeps what it was asked. `behaviour` may end the call before."""

    def __init__(self) -> None:
        self.address = ""
        self.request = perception_pb2.PerceiveRequest()
        self.metadata: dict[str, str | bytes] = {}
        self.seconds_left = 0.0
        self.behaviour: Behaviour = lambda context: None
        self.stream_requests: list[perception_pb2.PerceiveStreamRequest] = []
        self.stream: Callable[[perception_pb2.PerceiveStreamRequest], perception_pb2.PerceiveStreamResponse] = (
            lambda request: perception_pb2.PerceiveStreamResponse(scene=response())
        )
        self.hand_over_after: int | None = None

    def Perceive(self, request: perception_pb2.PerceiveRequest, context: Any) -> perception_pb2.PerceiveResponse:  # noqa: N802
        self._see(context)
        self.request = request
        self.behaviour(context)
        answer = response()
        # Of this call: others may have come in meanwhile.
        answer.request_id = str(dict(context.invocation_metadata())["x-request-id"])
        return answer

    def PerceiveStream(self, requests: Any, context: Any) -> Iterator[perception_pb2.PerceiveStreamResponse]:  # noqa: N802
        """Answers what `stream` says of each request; `response` where it says nothing.

        After `hand_over_after` answers the call ends as that of a gateway does that stops.
        """
        self._see(context)
        self.behaviour(context)
        for number, request in enumerate(requests):
            if number == self.hand_over_after:
                context.abort_with_status(rpc_status.to_status(error_status(Stopping())))
            self.stream_requests.append(request)
            answer = self.stream(request)
            answer.sequence = request.sequence
            yield answer

    def DescribeSystem(self, request: Any, context: Any) -> perception_pb2.DescribeSystemResponse:  # noqa: N802
        self._see(context)
        self.behaviour(context)
        return perception_pb2.DescribeSystemResponse(taxonomy="demo", version="1.2.3")

    def _see(self, context: grpc.ServicerContext) -> None:
        self.metadata = dict(context.invocation_metadata())
        self.seconds_left = context.time_remaining()


def dawdle(context: grpc.ServicerContext) -> None:
    """A behaviour: not done before the caller has given up."""
    while context.is_active():
        time.sleep(0.01)


@contextmanager
def serving() -> Iterator[Gateway]:
    """A gateway that listens on a free port."""
    gateway = Gateway()
    server = grpc.server(ThreadPoolExecutor(4))
    perception_pb2_grpc.add_PerceptionServiceServicer_to_server(gateway, server)
    gateway.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield gateway
    finally:
        server.stop(None).wait()
