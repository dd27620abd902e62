"""Structured logs: one JSON object a line on standard error, with the ids of its request and its trace."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

from services.runtime import tracing

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request at work in this context; empty outside of one."""
client: ContextVar[str] = ContextVar("client", default="")
"""Who makes that request; empty where nobody asked."""


class _Ids(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.trace_id = tracing.tracer.trace_id()
        if client.get():
            record.client = client.get()
        return True


def set_up(service: str, level: str) -> None:
    """Sends all logs of the process to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Ids())
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s %(trace_id)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"service": service},
            datefmt="%Y-%m-%dT%H:%M:%S%z",
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
