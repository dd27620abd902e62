"""Every error a service can answer with, and how a caller sees it.

ServiceError
├── InvalidInput            the caller sent something wrong; names the field
├── NotFound                the caller named something that is not there; names the field
├── NoToken                 the caller showed no token where one is needed
├── WrongToken              the caller's token is nobody's, has expired, or is not what its issuer signed
├── ScopeMissing            the caller may not do this; names the scope that would allow it
├── QuotaExceeded           the caller has used up what it may; names the quota
├── KeysUnavailable         who issues tokens cannot be asked for its keys
├── LimitExceeded           the caller sent more than a documented limit allows; names the field and the limit
├── Overloaded              no room for the request now; says when to try again
├── PictureNotShared        the picture lies in memory that this process does not see
├── RequestIncomplete       a request was begun and did not arrive as a whole
├── StreamIdle              a camera's stream brought no frame for too long
├── Stopping                this process, or a camera's stream, is coming to its end; another one takes over
├── DeadlineExceeded        the time allowed for the request ran out
├── EngineError             the inference engine could not do its part; names model and stage
│   ├── EngineUnavailable   the engine does not answer
│   ├── ModelUnavailable    the engine answers, the model is not loaded or cannot run
│   ├── ContractViolation   the model's configuration or output breaks the model contract
│   └── InferenceFailed     the model ran and failed
└── NoTaskAnswered          every task of a frame failed; says how each one did

| error             | gRPC code           | retryable |
|-------------------|---------------------|-----------|
| InvalidInput      | INVALID_ARGUMENT    | no        |
| NotFound          | NOT_FOUND           | no        |
| NoToken           | UNAUTHENTICATED     | no        |
| WrongToken        | UNAUTHENTICATED     | no        |
| ScopeMissing      | PERMISSION_DENIED   | no        |
| QuotaExceeded     | RESOURCE_EXHAUSTED  | yes       |
| KeysUnavailable   | UNAVAILABLE         | yes       |
| LimitExceeded     | RESOURCE_EXHAUSTED  | no        |
| Overloaded        | RESOURCE_EXHAUSTED  | yes       |
| PictureNotShared  | FAILED_PRECONDITION | no        |
| RequestIncomplete | DEADLINE_EXCEEDED   | no        |
| StreamIdle        | DEADLINE_EXCEEDED   | no        |
| Stopping          | UNAVAILABLE         | yes       |
| DeadlineExceeded  | DEADLINE_EXCEEDED   | no        |
| EngineUnavailable | UNAVAILABLE         | yes       |
| ModelUnavailable  | UNAVAILABLE         | yes       |
| ContractViolation | FAILED_PRECONDITION | no        |
| InferenceFailed   | INTERNAL            | no        |
| NoTaskAnswered    | UNAVAILABLE         | yes       |

Servicers raise these; `services.runtime.interceptors` turns them into a `google.rpc.Status`.
"""

from __future__ import annotations

from typing import ClassVar

import grpc


class ServiceError(Exception):
    """Base of all errors that a caller may see. `str(error)` is the message, free of stack traces and secrets."""

    code: ClassVar[grpc.StatusCode]
    reason: ClassVar[str]
    """`ErrorInfo.reason`: upper snake case, stable for programs."""
    retry_after_seconds: float | None = None
    """`RetryInfo.retry_delay`; None when trying again cannot help."""
    setting: str = ""
    """The setting of the limit that was breached; empty where it was none."""

    def metadata(self) -> dict[str, str]:
        """`ErrorInfo.metadata`: what a program can read besides the message, at least the setting that was breached."""
        return {"setting": self.setting} if self.setting else {}


class InvalidInput(ServiceError):
    """A field of the request is wrong. `field` is its path in the request message, such as `image.raw.stride`."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_INPUT"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description

    def metadata(self) -> dict[str, str]:
        """Names the field."""
        return {"field": self.field}


class NotFound(ServiceError):
    """A field of the request names something that is not there."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "NOT_FOUND"

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field

    def metadata(self) -> dict[str, str]:
        """Names the field."""
        return {"field": self.field}


class NoToken(ServiceError):
    """The caller showed no token where one is needed."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "NO_TOKEN"

    def __init__(self) -> None:
        super().__init__("no token: expected the metadata authorization: Bearer …")


class WrongToken(ServiceError):
    """The caller's token is nobody's, has expired, or is not what its issuer signed."""

    code = grpc.StatusCode.UNAUTHENTICATED
    reason = "WRONG_TOKEN"

    def __init__(self, description: str) -> None:
        super().__init__(f"the token {description}")


class ScopeMissing(ServiceError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "SCOPE_MISSING"

    def __init__(self, client: str, scope: str) -> None:
        super().__init__(f"{client} lacks the scope {scope}")
        self.client = client
        self.scope = scope

    def metadata(self) -> dict[str, str]:
        """Names the client and the scope that would allow it."""
        return {"client": self.client, "scope": self.scope}


class QuotaExceeded(ServiceError):
    """The caller has used up what it may."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "QUOTA_EXCEEDED"

    def __init__(self, client: str, quota: str, limit: float, retry_after_seconds: float) -> None:
        super().__init__(f"{client} has used up its {quota}, {limit:g}")
        self.client = client
        self.quota = quota
        self.limit = limit
        self.retry_after_seconds = retry_after_seconds

    def metadata(self) -> dict[str, str]:
        """Names the client, the quota and its limit."""
        return {"client": self.client, "quota": self.quota, "limit": f"{self.limit:g}"}


class KeysUnavailable(ServiceError):
    """Who issues tokens cannot be asked for its keys."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "KEYS_UNAVAILABLE"
    retry_after_seconds = 1.0

    def __init__(self) -> None:
        super().__init__("the keys of who issues tokens are not known yet")


class LimitExceeded(ServiceError):
    """A field of the request is larger than the service allows by `setting`."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "LIMIT_EXCEEDED"

    def __init__(self, field: str, description: str, limit: int, setting: str) -> None:
        super().__init__(f"{field}: {description}, the limit is {limit}")
        self.field = field
        self.limit = limit
        self.setting = setting

    def metadata(self) -> dict[str, str]:
        """Names the field, the limit and its setting."""
        return {"field": self.field, "limit": str(self.limit), "setting": self.setting}


class Overloaded(ServiceError):
    """The service has no room for the request now."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "OVERLOADED"

    def __init__(self, description: str, retry_after_seconds: float, setting: str = "") -> None:
        super().__init__(description)
        self.retry_after_seconds = retry_after_seconds
        self.setting = setting


class PictureNotShared(ServiceError):
    """The picture lies in memory that this process does not see; its caller may send it in the message."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "PICTURE_NOT_SHARED"
    setting = "shared_pictures_directory"

    def __init__(self, description: str) -> None:
        super().__init__(f"image.shared: {description}")


class RequestIncomplete(ServiceError):
    """A request was begun, and the rest of it did not arrive for too long."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "REQUEST_INCOMPLETE"
    setting = "receive_seconds"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request did not arrive as a whole within {seconds:g} s")


class StreamIdle(ServiceError):
    """A camera's stream brought no frame for longer than a stream may stay open so."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "STREAM_IDLE"
    setting = "stream_idle_seconds"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the stream brought no frame for {seconds:g} s: open another one when there is one")


class Stopping(ServiceError):
    """This process, or a camera's stream, is coming to its end. All that was taken on is answered."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "STOPPING"
    retry_after_seconds = 1.0

    def __init__(self, description: str = "the service is shutting down") -> None:
        super().__init__(description)


class DeadlineExceeded(ServiceError):
    """The time allowed for the request ran out at `stage`."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"

    def __init__(self, stage: str) -> None:
        super().__init__(f"deadline exceeded during {stage}")
        self.stage = stage

    def metadata(self) -> dict[str, str]:
        """Names the stage."""
        return {"stage": self.stage}


class EngineError(ServiceError):
    """The inference engine could not do its part for `model`."""

    code = grpc.StatusCode.INTERNAL
    reason = "ENGINE_ERROR"

    def __init__(self, model: str, description: str) -> None:
        super().__init__(f"model {model!r}: {description}")
        self.model = model

    def metadata(self) -> dict[str, str]:
        """Names the model."""
        return {"model": self.model}


class EngineUnavailable(EngineError):
    """The engine does not answer."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "ENGINE_UNAVAILABLE"
    retry_after_seconds = 1.0


class ModelUnavailable(EngineError):
    """The engine answers, but the model is not loaded or cannot run."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "MODEL_UNAVAILABLE"
    retry_after_seconds = 1.0


class ContractViolation(EngineError):
    """The model's configuration or output breaks the model contract."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "CONTRACT_VIOLATION"


class InferenceFailed(EngineError):
    """The model ran and failed."""

    code = grpc.StatusCode.INTERNAL
    reason = "INFERENCE_FAILED"


class NoTaskAnswered(ServiceError):
    """Every task of a frame failed."""

    code = grpc.StatusCode.UNAVAILABLE
    reason = "NO_TASK_ANSWERED"
    retry_after_seconds = 1.0

    def __init__(self, reasons: dict[str, str]) -> None:
        super().__init__("no task answered: " + "; ".join(f"{task}: {why}" for task, why in reasons.items()))
        self.reasons = reasons

    def metadata(self) -> dict[str, str]:
        """How each task failed."""
        return self.reasons
