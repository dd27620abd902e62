"""What a failed call of Triton means: every gRPC status code, and the messages that tell apart what shares a code.

| gRPC code                                        | error                                                             |
|--------------------------------------------------|-------------------------------------------------------------------|
| UNAVAILABLE                                      | EngineUnavailable; ModelUnavailable, Overloaded or                |
|                                                  | DeadlineExceeded where the message says so                        |
| INTERNAL                                         | InferenceFailed; ModelUnavailable where the process that runs the |
|                                                  | model has died; EngineUnavailable where the connection broke      |
| NOT_FOUND, FAILED_PRECONDITION                   | ModelUnavailable                                                  |
| INVALID_ARGUMENT, OUT_OF_RANGE, UNIMPLEMENTED    | ContractViolation: we sent what the model does not take           |
| RESOURCE_EXHAUSTED                               | Overloaded; ContractViolation where a message is too large        |
| DEADLINE_EXCEEDED                                | DeadlineExceeded                                                  |
| CANCELLED, ABORTED, DATA_LOSS                    | EngineUnavailable: the server ended the call                      |
| UNAUTHENTICATED, PERMISSION_DENIED               | EngineUnavailable: the server does not take calls from us         |
| UNKNOWN, ALREADY_EXISTS                          | InferenceFailed                                                   |
"""

from __future__ import annotations

import re
from collections.abc import Callable

from grpc import StatusCode

from services.runtime.errors import (
    ContractViolation,
    DeadlineExceeded,
    EngineUnavailable,
    InferenceFailed,
    ModelUnavailable,
    Overloaded,
    ServiceError,
)

_Maker = Callable[[str, str], ServiceError]


def _overloaded(model: str, description: str) -> ServiceError:
    return Overloaded(f"model {model!r}: {description}", retry_after_seconds=0.1)


def _deadline_exceeded(model: str, description: str) -> ServiceError:
    return DeadlineExceeded("inference")


_BY_CODE: dict[StatusCode, _Maker] = {
    StatusCode.CANCELLED: EngineUnavailable,
    StatusCode.UNKNOWN: InferenceFailed,
    StatusCode.INVALID_ARGUMENT: ContractViolation,
    StatusCode.DEADLINE_EXCEEDED: _deadline_exceeded,
    StatusCode.NOT_FOUND: ModelUnavailable,
    StatusCode.ALREADY_EXISTS: InferenceFailed,
    StatusCode.PERMISSION_DENIED: EngineUnavailable,
    StatusCode.UNAUTHENTICATED: EngineUnavailable,
    StatusCode.RESOURCE_EXHAUSTED: _overloaded,
    StatusCode.FAILED_PRECONDITION: ModelUnavailable,
    StatusCode.ABORTED: EngineUnavailable,
    StatusCode.UNIMPLEMENTED: ContractViolation,
    StatusCode.OUT_OF_RANGE: ContractViolation,
    StatusCode.INTERNAL: InferenceFailed,
    StatusCode.UNAVAILABLE: EngineUnavailable,
    StatusCode.DATA_LOSS: EngineUnavailable,
}

REGION_UNKNOWN = "Unable to find shared memory region"
"""What Triton says of an input in shared memory that it has not mapped."""

# Parts of messages, by the codes that they come with; the first that occurs decides.
_BY_MESSAGE: dict[StatusCode, tuple[tuple[str, _Maker], ...]] = {
    StatusCode.UNAVAILABLE: (
        ("Request timeout expired", _deadline_exceeded),
        ("Exceeds maximum queue size", _overloaded),
        ("unknown model", ModelUnavailable),
        ("is not at ready state", ModelUnavailable),
        ("has no available versions", ModelUnavailable),
        ("scheduler for model has stopped", ModelUnavailable),
        ("Stub process", ModelUnavailable),
    ),
    StatusCode.INTERNAL: (
        ("Stub process", ModelUnavailable),
        ("Failed to process the request", ModelUnavailable),
        ("RST_STREAM", EngineUnavailable),
    ),
    StatusCode.RESOURCE_EXHAUSTED: (("larger than max", ContractViolation),),
}


def error_from_status(model: str, code: StatusCode, message: str) -> ServiceError:
    """The error that a service raises for a failed call about `model`, given the call's status."""
    message = re.sub(r"^\[request id: .*?\] ", "", message)
    for part, maker in _BY_MESSAGE.get(code, ()):
        if part in message:
            return maker(model, message)
    return _BY_CODE[code](model, message or code.name)
