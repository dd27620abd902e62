"""Traces: what happened to one frame, in which process, and for how long; docs/monitoring.md shows one.

Off unless OpenTelemetry's own variable `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) names a
collector. Until then `tracer` is one that does nothing, and nothing of OpenTelemetry is imported. Its other variables
hold as its documentation says: `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS`, …

A frame, or a request, begins a trace, or goes on with its caller's (W3C Trace Context). All that is done for it is a
span of that trace; what is done for none, such as looking after the models, is in no trace.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Self

Attributes = Mapping[str, str | int | float | bool]
Metadata = Iterable[tuple[str, str | bytes]]

TRACE_ID_KEY = "x-trace-id"
"""Trailing metadata that tell the trace of a request."""


class Span:
    """A piece of work; this one is part of no trace, and nothing is kept of it.

    As a context manager it is current inside, so that further spans are below it, and ends with the block; an exception
    is its error.
    """

    trace_id = ""
    """32 hexadecimal digits; empty where the work is not traced."""

    @property
    def traceparent(self) -> str:
        """The span as a caller, as in the header of W3C Trace Context; empty where the work is in no trace."""
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        pass

    def make_current(self) -> None:
        """Makes it current for the rest of this task (asyncio's), without ending it there."""

    def set(self, name: str, value: str | int | float | bool) -> None:
        """Sets an attribute."""

    def event(self, name: str) -> None:
        """Something happened now."""

    def fail(self, kind: str, message: str) -> None:
        """The work failed. kind: what went wrong, for programs, such as the name of a gRPC status."""

    def end(self) -> None:
        """The work is over. A second time does nothing."""


NO_SPAN = Span()


class Tracer:
    """Makes spans; this one makes none."""

    def request(self, method: str, metadata: Metadata) -> Span:
        """A request that came in, current for the rest of its task; a root, or below what the metadata name."""
        return NO_SPAN

    def stream(self, metadata: Metadata) -> None:
        """A stream that came in. Its frames have traces of their own, which refer to what the metadata name."""

    def frame(
        self,
        name: str,
        attributes: Attributes,
        *,
        traceparent: str = "",
        begun: float | None = None,
        is_sent: bool = False,
    ) -> Span:
        """A frame: a root, or below the span that `traceparent` names; a malformed one counts as none.

        begun: seconds since 1970, now where it is not given. is_sent: whether the frame goes to another service, and
        the span ends with the answer.
        """
        return NO_SPAN

    def span(self, name: str) -> Span:
        """A piece of work below the current span; of no trace where there is none."""
        return NO_SPAN

    def call(self, method: str, attributes: Attributes) -> Span:
        """A gRPC call of another service, below the current span; of no trace where there is none."""
        return NO_SPAN

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Metadata that tell a called service of the current span, also where it is not sampled."""
        return ()

    def trace_id(self) -> str:
        """Id of the current trace; empty where there is none, or it is not sampled."""
        return ""

    def close(self) -> None:
        """Sends what is left, within seconds."""


tracer = Tracer()
"""This process's; always called as `tracing.tracer`, because `start` replaces it."""


def start(service: str) -> None:
    """Traces from now on, where OpenTelemetry's variables name a collector.

    service: the name of this process in its traces, unless OTEL_SERVICE_NAME gives another. Ends the program with
    status 1 where a variable has a value that cannot be.
    """
    global tracer
    if not _wanted():
        return
    # Imported here, so that a process without traces does not carry it.
    from services.runtime.opentelemetry_tracer import OpenTelemetryTracer

    try:
        tracer = OpenTelemetryTracer(service)
    except ValueError as error:
        raise SystemExit(f"OTEL_…: {error}") from None


def stop() -> None:
    """Sends what is left, within seconds, and traces no more."""
    global tracer
    tracer.close()
    tracer = Tracer()


def _wanted() -> bool:
    has_collector = any(
        os.environ.get(name) for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return has_collector and not is_disabled and os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "none"
