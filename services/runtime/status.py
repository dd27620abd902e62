"""Errors as callers see them: a `google.rpc.Status`."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.runtime.errors import InvalidInput, ServiceError

DOMAIN = "perception"
# A status travels in trailers, of which gRPC takes 8 KiB; past that the caller would learn nothing of the error.
_LONGEST_TEXT = 800


def code_of(error: BaseException | None) -> grpc.StatusCode:
    """The code that a call ends with."""
    match error:
        case None:
            return grpc.StatusCode.OK
        case ServiceError():
            return error.code
        case asyncio.CancelledError() | GeneratorExit():
            return grpc.StatusCode.CANCELLED
        case _:
            return grpc.StatusCode.INTERNAL


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], error: BaseException, *trailing_metadata: tuple[str, str]
) -> None:
    """Ends a call with an error."""
    failed = rpc_status.to_status(error_status(error))
    await context.abort(failed.code, failed.details, (*failed.trailing_metadata, *trailing_metadata))


def error_status(error: BaseException) -> status_pb2.Status:
    """The `google.rpc.Status` of an error. One that is not ours is a defect, and says nothing of itself to a caller."""
    number: int = code_of(error).value[0]
    if not isinstance(error, ServiceError):
        return status_pb2.Status(code=code_pb2.INTERNAL, message="internal error")
    status = status_pb2.Status(code=number, message=_short(str(error)))
    metadata = {key: _short(value) for key, value in error.metadata().items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    _add(status, info)
    if isinstance(error, InvalidInput):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=_short(error.description)
        )
        _add(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromMicroseconds(round(error.retry_after_seconds * 1e6))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _add(status: status_pb2.Status, detail: Any) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
