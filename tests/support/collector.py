"""A collector of traces for tests: OTLP by gRPC, as our services send it, and by HTTP, as Triton does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.service import eventually

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True)
class Span:
    """One span as it arrived. begun, ended: nanoseconds since 1970."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    begun: int
    ended: int
    is_error: bool
    message: str
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    links: tuple[str, ...] = field(default=())
    """Ids of the spans that it refers to."""
    events: tuple[str, ...] = field(default=())


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on two free ports of this machine and keeps every span."""

    def __enter__(self) -> Collector:
        self.spans: list[Span] = []
        self.batches = 0
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._grpc)
        self.endpoint = f"http://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self._grpc.start()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._add_json))
        self.http_url = f"http://127.0.0.1:{self._http.server_port}/v1/traces"
        self._serving = threading.Thread(target=self._http.serve_forever)
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._grpc.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()
        self._serving.join()

    def Export(  # noqa: N802 - the RPC's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        # In JSON protobuf writes ids in base 64, OTLP in hexadecimal digits.
        message = MessageToDict(request, use_integers_for_enums=True)
        for source, target in zip(_spans(request), _raw(message), strict=True):
            target |= {"traceId": source.trace_id.hex(), "spanId": source.span_id.hex()}
            target |= {"parentSpanId": source.parent_span_id.hex()}
            for link, told in zip(source.links, target.get("links", ()), strict=True):
                told["spanId"] = link.span_id.hex()
        self._add(message)
        return trace_service_pb2.ExportTraceServiceResponse()

    def _add_json(self, body: bytes) -> None:
        self._add(json.loads(body))

    def _add(self, message: dict[str, Any]) -> None:
        self.batches += 1
        for resource_spans in message["resourceSpans"]:
            resource = _attributes(resource_spans["resource"].get("attributes", ()))
            for scope in resource_spans["scopeSpans"]:
                self.spans.extend(_span(span, resource) for span in scope["spans"])

    def trace(self, trace_id: str, complete: Callable[[list[Span]], bool]) -> list[Span]:
        """The spans of one trace; waits until it is complete."""
        found: list[Span] = []

        def look() -> bool:
            found[:] = [span for span in list(self.spans) if span.trace_id == trace_id]
            return complete(found)

        try:
            eventually(look, 30)
        except AssertionError:
            raise AssertionError(f"the trace has only {[(span.service, span.name) for span in found]}") from None
        return found


def _handler(add: Callable[[bytes], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            add(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _spans(request: Any) -> Iterable[Any]:
    for resource_spans in request.resource_spans:
        for scope in resource_spans.scope_spans:
            yield from scope.spans


def _raw(message: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for resource_spans in message.get("resourceSpans", ()):
        for scope in resource_spans["scopeSpans"]:
            yield from scope["spans"]


def _span(told: dict[str, Any], resource: Mapping[str, Any]) -> Span:
    status = told.get("status", {})
    return Span(
        service=resource["service.name"],
        name=told["name"],
        trace_id=told["traceId"],
        span_id=told["spanId"],
        parent_id=told.get("parentSpanId", ""),
        kind=_KINDS[told.get("kind", 0)],
        begun=int(told["startTimeUnixNano"]),
        ended=int(told["endTimeUnixNano"]),
        is_error=status.get("code") == 2,
        message=status.get("message", ""),
        attributes=_attributes(told.get("attributes", ())),
        resource=resource,
        links=tuple(link["spanId"] for link in told.get("links", ())),
        events=tuple(event["name"] for event in told.get("events", ())),
    )


def _attributes(told: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: _value(one["value"]) for one in told}


def _value(told: dict[str, Any]) -> Any:
    ((kind, value),) = told.items()
    return int(value) if kind == "intValue" else value
