"""What a call can end with.

PerceptionError
├── InvalidArgument      the request is wrong; `field` names where
├── Unauthenticated      no token, or one that is not accepted
├── PermissionDenied     the token lacks the scope that the call needs
├── ResourceExhausted    over a limit or quota, or overload; `retry_after_seconds` is set where trying again helps
├── Unavailable          the service, or every task behind it, is down
├── DeadlineExceeded     no answer in time
└── InternalError        anything else; a defect of the service
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Self

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status


class PerceptionError(Exception):
    """A call failed. `code`: the canonical gRPC code. `reason`: upper snake case, stable for programs.

    `setting`: of the service, the limit that was breached; empty where it was none. `trace_id`: 32 hexadecimal digits;
    empty where the request is not traced.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.INTERNAL,
        reason: str = "",
        field: str = "",
        setting: str = "",
        retry_after_seconds: float | None = None,
        request_id: str = "",
        trace_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.field = field
        self.setting = setting
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id
        self.trace_id = trace_id

    @classmethod
    def from_rpc_error(cls, error: grpc.RpcError, request_id: str = "") -> PerceptionError:
        """The error that a failed call stands for, with what its `google.rpc.Status` tells."""
        code: grpc.StatusCode = error.code()  # both of gRPC's kinds of failed call have it, their common base has not
        kind = _KINDS.get(code, InternalError)
        details = _Details.of(error)
        return kind(
            error.details() or code.name,
            code=code,
            reason=details.reason,
            field=details.field,
            setting=details.setting,
            retry_after_seconds=details.retry_after_seconds,
            request_id=request_id,
            trace_id=_trace_id(error),
        )


class InvalidArgument(PerceptionError):
    """The request is wrong; `field` names where."""


class Unauthenticated(PerceptionError):
    """The call has no token, or one that is not accepted."""


class PermissionDenied(PerceptionError):
    """The token lacks the scope that the call needs."""


class ResourceExhausted(PerceptionError):
    """The request is over a limit or the caller's quota, or the system is overloaded."""


class Unavailable(PerceptionError):
    """The service, or every task behind it, is down."""


class DeadlineExceeded(PerceptionError):
    """No answer in time."""


class InternalError(PerceptionError):
    """A defect of the service."""


_KINDS: dict[grpc.StatusCode, type[PerceptionError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}


def _trace_id(error: grpc.RpcError) -> str:
    trailing_metadata: Any = error.trailing_metadata()
    return str(dict(trailing_metadata or ()).get("x-trace-id", ""))


class _Details:
    def __init__(self) -> None:
        self.reason = ""
        self.field = ""
        self.setting = ""
        self.retry_after_seconds: float | None = None

    @classmethod
    def of(cls, error: grpc.RpcError) -> Self:
        """Reads the standard details; a status without any, or a broken one, leaves them empty."""
        found = cls()
        # DecodeError: bytes that are no message of that kind, from something between the service and here.
        with suppress(ValueError, DecodeError):
            status = rpc_status.from_call(error)
            for detail in status.details if status else ():
                found._read(detail)
        return found

    def _read(self, detail: any_pb2.Any) -> None:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            self.reason = info.reason
            self.field = self.field or info.metadata.get("field", "")
            self.setting = info.metadata.get("setting", "")
        elif detail.Unpack(bad) and bad.field_violations:
            self.field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            self.retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
