"""The caller's traces, where it has any."""

from __future__ import annotations

import sys


def trace_headers() -> tuple[tuple[str, str], ...]:
    """Metadata that tell the gateway of the caller's current span (W3C Trace Context).

    None where the caller does not use OpenTelemetry, which this package does not need, or is in no span.
    """
    # Who has a span has imported this; it is not for us to do.
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return tuple(headers.items())
