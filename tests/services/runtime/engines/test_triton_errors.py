from __future__ import annotations

import grpc
import pytest

from services.runtime.engines.triton_errors import error_from_status
from services.runtime.errors import (
    ContractViolation,
    DeadlineExceeded,
    EngineError,
    EngineUnavailable,
    InferenceFailed,
    ModelUnavailable,
    Overloaded,
    ServiceError,
)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_of_a_failed_call_is_mapped(code: grpc.StatusCode) -> None:
    error = error_from_status("detection", code, "the reason")
    assert isinstance(error, (EngineError, DeadlineExceeded, Overloaded))
    if not isinstance(error, DeadlineExceeded):
        assert "detection" in str(error)
        assert "the reason" in str(error)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        # the server
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", EngineUnavailable),
        (grpc.StatusCode.UNAVAILABLE, "Server not ready", EngineUnavailable),
        (grpc.StatusCode.UNAVAILABLE, "GRPC server is shutting down and has stopped accepting", EngineUnavailable),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", EngineUnavailable),
        (grpc.StatusCode.CANCELLED, "CANCELLED", EngineUnavailable),
        # the model
        (grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'x' has no available versions", ModelUnavailable),
        (
            grpc.StatusCode.UNAVAILABLE,
            "Request for unknown model: 'x' version 1 is not at ready state",
            ModelUnavailable,
        ),
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'x' is not found", ModelUnavailable),
        (grpc.StatusCode.INTERNAL, "Stub process 'x_0_0' is not healthy.", ModelUnavailable),
        (grpc.StatusCode.INTERNAL, "model 'x' failed in ONNX Runtime: indices out of bounds", InferenceFailed),
        # time and room
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", DeadlineExceeded),
        (grpc.StatusCode.UNAVAILABLE, "Request timeout expired", DeadlineExceeded),
        (grpc.StatusCode.UNAVAILABLE, "[request id: a] Exceeds maximum queue size", Overloaded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams", Overloaded),
        # what we sent
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'image'", ContractViolation),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max (2 vs. 1)", ContractViolation),
    ],
)
def test_messages_tell_apart_what_shares_a_code(code: grpc.StatusCode, message: str, kind: type[ServiceError]) -> None:
    assert type(error_from_status("x", code, message)) is kind


def test_triton_s_prefix_is_left_out() -> None:
    error = error_from_status("x", grpc.StatusCode.INVALID_ARGUMENT, "[request id: <id_unknown>] unexpected shape")
    assert str(error) == "model 'x': unexpected shape"
