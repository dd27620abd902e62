"""Traces by OpenTelemetry, sent to a collector by OTLP over gRPC. Imported only where there is one."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import grpc
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc import exporter as otlp
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv.attributes import error_attributes, service_attributes
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.runtime import metrics
from services.runtime.errors import ServiceError
from services.runtime.tracing import NO_SPAN, Attributes, Metadata, Span, Tracer

_FLUSH_SECONDS = 2.0
"""How long the end of the process waits for a collector."""
_SPANS_KEPT = 2048
_SECONDS_BETWEEN_WARNINGS = 60.0
_QUESTIONS = ("Describe", "List")
"""How methods begin that are asked again and again, and that no frame waits for: they begin no trace."""
_CODES = frozenset(code.name for code in grpc.StatusCode)
_SERVER_FAULTS = frozenset(
    code.name
    for code in (
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)
"""What counts as an error of the one who answers, by OpenTelemetry's conventions; the rest is the caller's."""

_propagator = TraceContextTextMapPropagator()


class RecordedSpan(Span):
    """A span of a trace; of one that is not sampled only its ids go on to others."""

    def __init__(self, span: trace.Span, kind: SpanKind) -> None:
        self._span = span
        self._kind = kind
        self.trace_id = _trace_id(span)

    @property
    def traceparent(self) -> str:
        """See `Span.traceparent`."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(self._span))
        return carrier["traceparent"]

    def __enter__(self) -> RecordedSpan:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        contexts.detach(self._token)
        if error is not None:
            self.fail(error.reason if isinstance(error, ServiceError) else type(error).__name__, str(error))
        self.end()

    def make_current(self) -> None:
        """See `Span.make_current`."""
        contexts.attach(trace.set_span_in_context(self._span))

    def set(self, name: str, value: str | int | float | bool) -> None:
        """See `Span.set`."""
        self._span.set_attribute(name, value)

    def event(self, name: str) -> None:
        """See `Span.event`."""
        self._span.add_event(name)

    def fail(self, kind: str, message: str) -> None:
        """See `Span.fail`."""
        self._span.set_attribute(error_attributes.ERROR_TYPE, kind)
        if self._kind is not SpanKind.SERVER or kind in _SERVER_FAULTS or kind not in _CODES:
            self._span.set_status(StatusCode.ERROR, message)

    def end(self) -> None:
        """See `Span.end`."""
        if self._span.is_recording():
            self._span.end()


class OpenTelemetryTracer(Tracer):
    """Makes spans and sends them in batches from a thread of its own; a collector that is away holds up nothing.

    Raises `ValueError` for a variable of OpenTelemetry's that has an impossible value.
    """

    def __init__(self, service: str) -> None:
        ours = {
            service_attributes.SERVICE_NAME: service,
            "service.namespace": "perception",
            service_attributes.SERVICE_VERSION: version("perception-services"),
        }
        # What the variables say goes before it.
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(_Batches())
        self._tracer = self._provider.get_tracer("perception", version("perception-services"))
        otlp.logger.addFilter(_NowAndThen())

    def request(self, method: str, metadata: Metadata) -> Span:
        """See `Tracer.request`."""
        caller = _caller(metadata)
        is_question = method.rpartition("/")[2].startswith(_QUESTIONS)
        if is_question and not trace.get_current_span(caller).get_span_context().is_valid:
            return NO_SPAN
        span = self._start(method.removeprefix("/"), caller, SpanKind.SERVER, _rpc(method))
        span.make_current()
        return span

    def stream(self, metadata: Metadata) -> None:
        """See `Tracer.stream`."""
        contexts.attach(_caller(metadata))

    def frame(
        self,
        name: str,
        attributes: Attributes,
        *,
        traceparent: str = "",
        begun: float | None = None,
        is_sent: bool = False,
    ) -> Span:
        """See `Tracer.frame`."""
        caller = _propagator.extract({"traceparent": traceparent}, Context())
        is_root = not trace.get_current_span(caller).get_span_context().is_valid
        stream = trace.get_current_span().get_span_context()
        span = self._tracer.start_span(
            name.removeprefix("/"),
            caller,
            kind := SpanKind.CLIENT if is_sent else SpanKind.SERVER,
            attributes=attributes,
            links=[Link(stream)] if is_root and stream.is_valid else (),
            start_time=None if begun is None else round(begun * 1e9),
        )
        return RecordedSpan(span, kind)

    def span(self, name: str) -> Span:
        """See `Tracer.span`."""
        return self._below(name, SpanKind.INTERNAL, {})

    def call(self, method: str, attributes: Attributes) -> Span:
        """See `Tracer.call`."""
        return self._below(method.removeprefix("/"), SpanKind.CLIENT, {**_rpc(method), **attributes})

    def headers(self) -> tuple[tuple[str, str], ...]:
        """See `Tracer.headers`."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return tuple(carrier.items())

    def trace_id(self) -> str:
        """See `Tracer.trace_id`."""
        return _trace_id(trace.get_current_span())

    def close(self) -> None:
        """See `Tracer.close`."""
        # A thread that may be left behind: the batches would wait longer for a collector that is away.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_FLUSH_SECONDS)

    def _below(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        if not trace.get_current_span().is_recording():
            return NO_SPAN
        return self._start(name, None, kind, attributes)

    def _start(self, name: str, parent: Context | None, kind: SpanKind, attributes: Attributes) -> Span:
        return RecordedSpan(self._tracer.start_span(name, parent, kind, attributes), kind)


class _Batches(BatchSpanProcessor):
    """Keeps spans until a batch is sent, and counts what becomes of them; beyond the limit new ones are dropped."""

    def __init__(self) -> None:
        self._limit = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", _SPANS_KEPT))
        self._kept = 0
        self._lock = threading.Lock()
        super().__init__(_Exporter(self._done), max_queue_size=self._limit)

    def on_end(self, span: ReadableSpan) -> None:
        """Takes a span, or drops it. Never waits."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._lock:
            has_room = self._kept < self._limit
            self._kept += has_room
        if has_room:
            super().on_end(span)
        else:
            metrics.TRACE_SPANS.labels("dropped").inc()

    def _done(self, spans: int) -> None:
        with self._lock:
            self._kept -= spans


class _Exporter(OTLPSpanExporter):
    """done: is told how many spans need not be kept any more."""

    def __init__(self, done: Callable[[int], None]) -> None:
        super().__init__()
        self._done = done

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends a batch; tries again for some seconds where the collector is away."""
        result = SpanExportResult.FAILURE
        try:
            result = super().export(spans)
            return result
        finally:
            self._done(len(spans))
            metrics.TRACE_SPANS.labels("exported" if result is SpanExportResult.SUCCESS else "failed").inc(len(spans))


class _NowAndThen(logging.Filter):
    """Lets one record through a minute, as a warning: traces are not what the system is for."""

    def __init__(self) -> None:
        super().__init__()
        self._next = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.levelno < logging.WARNING or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _SECONDS_BETWEEN_WARNINGS
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        return True


def _caller(metadata: Metadata) -> Context:
    """The span that the metadata name; none where they name none, or wrongly."""
    return _propagator.extract({key: value for key, value in metadata if isinstance(value, str)}, Context())


def _rpc(method: str) -> Attributes:
    return {rpc_attributes.RPC_SYSTEM_NAME: "grpc", rpc_attributes.RPC_METHOD: method.removeprefix("/")}


def _trace_id(span: trace.Span) -> str:
    found = span.get_span_context()
    return trace.format_trace_id(found.trace_id) if found.trace_flags.sampled else ""
