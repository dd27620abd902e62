"""What happens around every request: its id, its trace, its metrics, and its errors as a `google.rpc.Status`."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from services.runtime import logs, metrics, tracing
from services.runtime.admission import Admission
from services.runtime.errors import LimitExceeded, Overloaded, ServiceError, Stopping
from services.runtime.limits import count_breach
from services.runtime.parsing import parsing
from services.runtime.receiving import Bystanders, Receiving
from services.runtime.status import abort, code_of

REQUEST_ID_KEY = "x-request-id"
MOST_BYSTANDERS = 100
"""Calls for health and reflection, of which some are kept open."""
_LONGEST_REQUEST_ID = 128
# What HTTP/2 counts for a header besides its name and value (RFC 9113, 6.5.2).
_HEADER_BYTES = 32
# How a handler ends whose caller went away: a stream's is closed where it waits to send.
_GONE = (asyncio.CancelledError, GeneratorExit)

log = logging.getLogger(__name__)


class RequestInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of the API; of health and reflection only the number of calls is bounded.

    max_concurrent_requests: requests at work at once; more are refused as `Overloaded`. Health is not counted, so that
    a busy service is not taken for a dead one; nor are streams, which stay open while nothing is at work: who serves
    them bounds them. heeds_deadlines: whether a request that would be late is refused likewise.
    default_timeout_seconds: the time of one that comes without a deadline. max_message_bytes: of a request, and of an
    answer. max_metadata_bytes: of a request's metadata, as HTTP/2 counts headers. receive_seconds: time for a request
    to arrive as a whole.
    """

    def __init__(
        self,
        max_concurrent_requests: int,
        *,
        heeds_deadlines: bool = True,
        default_timeout_seconds: float = 10.0,
        max_message_bytes: int = 33 * 2**20,
        max_metadata_bytes: int = 8192,
        receive_seconds: float = 10.0,
    ) -> None:
        self._receiving = Receiving(max_concurrent_requests, receive_seconds)
        self._bystanders = Bystanders(MOST_BYSTANDERS, self._receiving, max_message_bytes)
        self._admission = Admission(max_concurrent_requests, heeds_deadlines=heeds_deadlines)
        self._default_timeout_seconds = default_timeout_seconds
        self._max_message_bytes = max_message_bytes
        self._max_metadata_bytes = max_metadata_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wraps the handler that would answer."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        if handler is None:
            return None
        if not method.startswith("/perception."):
            return self._bystanders.handler(handler)
        # Handlers of one request are given as those of many, which wait for it here and not inside of gRPC.
        handler = parsing(handler, self._max_message_bytes)
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(self._answer_once(handler.unary_unary, method))
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(self._answer_many(handler.stream_stream, method))
        if handler.unary_stream:
            return grpc.stream_stream_rpc_method_handler(self._answer_many(handler.unary_stream, method, one=True))
        raise NotImplementedError(f"{method}: a stream of requests with one answer")

    def _answer_once(self, behaviour: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Awaitable[Any]]:
        async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            span = tracing.tracer.request(method, context.invocation_metadata() or ())
            async with _Request(method, context, span):
                self._check_metadata(context)
                request = await self._receiving.first(requests)
                left = context.time_remaining()
                with self._admission.admitted(method, self._default_timeout_seconds if left is None else left):
                    return await behaviour(request, context)

        return answer

    def _answer_many(
        self, behaviour: Callable[..., AsyncGenerator[Any, None]], method: str, *, one: bool = False
    ) -> Callable[..., AsyncIterator[Any]]:
        async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            tracing.tracer.stream(context.invocation_metadata() or ())
            async with _Request(method, context):
                self._check_metadata(context)
                request = await self._receiving.first(requests) if one else requests
                # Closed here and not by the garbage collector, whatever ends the call.
                async with aclosing(behaviour(request, context)) as responses:
                    async for response in responses:
                        yield response

        return answer

    def _check_metadata(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        size = sum(len(key) + len(value) + _HEADER_BYTES for key, value in context.invocation_metadata() or ())
        if size > self._max_metadata_bytes:
            raise LimitExceeded("metadata", f"{size} bytes", self._max_metadata_bytes, "max_metadata_bytes")


class _Request:
    """One request from its arrival to its end. span: its own, which ends with it."""

    def __init__(
        self, method: str, context: grpc.aio.ServicerContext[Any, Any], span: tracing.Span = tracing.NO_SPAN
    ) -> None:
        self._method = method
        self._context = context
        self._span = span
        self._started = time.perf_counter()

    async def __aenter__(self) -> None:
        logs.request_id.set(_request_id(self._context))
        if self._span.trace_id:
            self._context.set_trailing_metadata(((tracing.TRACE_ID_KEY, self._span.trace_id),))
        metrics.REQUESTS_IN_FLIGHT.labels(self._method).inc()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        seconds = time.perf_counter() - self._started
        metrics.REQUESTS_IN_FLIGHT.labels(self._method).dec()
        metrics.REQUEST_DURATION.labels(self._method).observe(seconds)
        code = code_of(error)
        count_breach(error)
        metrics.REQUESTS.labels(self._method, code.name).inc()
        self._end_span(code, error)
        if error is None:
            log.debug("answered", extra={"method": self._method, "seconds": round(seconds, 6)})
            return
        log.log(
            _level(error, code),
            "%s",
            error,
            extra={"method": self._method, "code": code.name, "seconds": round(seconds, 6)},
            exc_info=error if not isinstance(error, (ServiceError, *_GONE)) else None,
        )
        if isinstance(error, _GONE):
            return
        trace = ((tracing.TRACE_ID_KEY, self._span.trace_id),) if self._span.trace_id else ()
        await abort(self._context, error, *trace)

    def _end_span(self, code: grpc.StatusCode, error: BaseException | None) -> None:
        self._span.set("rpc.response.status_code", code.name)
        if error is not None:
            self._span.fail(code.name, str(error))
        self._span.end()


def _level(error: BaseException, code: grpc.StatusCode) -> int:
    if isinstance(error, Stopping):  # the caller goes on elsewhere
        return logging.INFO
    if isinstance(error, Overloaded):  # counted; writing thousands a second would be load in itself
        return logging.DEBUG
    return logging.ERROR if code is grpc.StatusCode.INTERNAL else logging.WARNING


def _request_id(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str) and value.isprintable() and value:
            return value[:_LONGEST_REQUEST_ID]
    return uuid.uuid4().hex
