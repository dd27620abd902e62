"""What every service can be told, by environment variables."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, get_args

from perception.connections import read_token
from perception.tls import TLS
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_TRACES = """\
  OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, … (OpenTelemetry's own, default: no traces)
      Collector of traces, OTLP over gRPC; docs/monitoring.md."""


File = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""Path of a file; none where the variable is empty."""


class TLSSettings(BaseSettings):
    """How a process shows who it is, and whom it trusts. Files are read again when they change."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    tls_ca_file: File = Field(
        None,
        description="Authorities, PEM: calls of other services are made by TLS, and only to whom one of these vouches "
        "for; none: in plain text. With TLS_CLIENT_AUTHENTICATION=required callers need a certificate of theirs, too.",
    )
    tls_certificate_file: File = Field(
        None, description="This process's certificate, PEM, for its port and as a caller; none: plain text."
    )
    tls_key_file: File = Field(None, validate_default=True, description="The certificate's key, PEM.")
    tls_client_authentication: Literal["off", "required"] = Field(
        "off", validate_default=True, description="Whether callers need a certificate (mutual TLS)."
    )

    @field_validator("tls_ca_file")
    @classmethod
    def _holds_authorities(cls, authorities: Path | None) -> Path | None:
        if authorities is not None:
            _usable(TLS(authorities))
        return authorities

    @field_validator("tls_key_file")
    @classmethod
    def _belongs_to_the_certificate(cls, key: Path | None, info: ValidationInfo) -> Path | None:
        certificate = info.data.get("tls_certificate_file")
        if (key is None) != (certificate is None):
            raise ValueError("expected TLS_CERTIFICATE_FILE and TLS_KEY_FILE, or neither")
        if certificate is not None:
            _usable(TLS(certificate=certificate, key=key))
        return key

    @field_validator("tls_client_authentication")
    @classmethod
    def _can_be_checked(cls, authentication: str, info: ValidationInfo) -> str:
        needed = ("tls_certificate_file", "tls_ca_file")
        missing = [name.upper() for name in needed if name in info.data and info.data[name] is None]
        if authentication == "required" and missing:
            raise ValueError(f"needs {' and '.join(missing)}")
        return authentication

    @property
    def tls_as_caller(self) -> TLS | None:
        """For calls of other services; none: plain text."""
        if self.tls_ca_file is None:
            return None
        return TLS(self.tls_ca_file, self.tls_certificate_file, self.tls_key_file)

    @property
    def tls_as_server(self) -> TLS | None:
        """For those who call; none: plain text."""
        if self.tls_certificate_file is None:
            return None
        authorities = self.tls_ca_file if self.requires_certificates else None
        return TLS(authorities, self.tls_certificate_file, self.tls_key_file)

    @property
    def requires_certificates(self) -> bool:
        """Whether callers need one."""
        return self.tls_client_authentication == "required"


class CallerSettings(TLSSettings):
    """Settings of who calls the gateway."""

    token_file: File = Field(
        None, description="File with the token that the gateway is shown; read again when it changes; none: no token."
    )

    @field_validator("token_file")
    @classmethod
    def _holds_a_token(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                read_token(path)
            except OSError as error:
                raise ValueError(f"cannot be read: {error.strerror}") from None
        return path


class ServiceSettings(TLSSettings):
    """Settings of every service."""

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a container listens on all
    port: int = Field(50050, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    metrics_port: int = Field(9090, ge=0, le=65535, description="HTTP port of /metrics; 0 takes a free one.")
    health_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Another gRPC port for health alone, always in plain text, for probes that have no certificate; "
        "0: none.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    max_image_bytes: int = Field(32 * 2**20, ge=1, description="Largest picture, encoded or raw, in bytes.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest picture in pixels, read from its header.")
    max_metadata_bytes: int = Field(
        8192, ge=1024, description="Largest metadata of a request, as HTTP/2 counts headers."
    )
    max_concurrent_requests: int = Field(64, ge=1, description="Requests at work at once; more are refused.")
    shared_pictures_directory: File = Field(
        None,
        description="Folder in memory, such as one in /dev/shm, through which a gateway shares each decoded picture "
        "with the task services of its own machine and user; none: every task service decodes the bytes it is sent.",
    )
    receive_seconds: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="Time for a request to arrive as a whole, once it was begun."
    )
    admission_control: bool = Field(
        True,
        description="Refuse a request at once whose deadline cannot be met, by what requests took lately and how many "
        "are ahead of it.",
    )
    default_timeout_seconds: float = Field(
        10.0, gt=0, allow_inf_nan=False, description="Time for a request that comes without a deadline."
    )
    drain_seconds: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="Time for requests at work to end after SIGTERM."
    )
    max_connection_age_seconds: float = Field(
        10.0,
        gt=0,
        description="Age, give or take a tenth, at which a connection takes no more requests: its caller looks up all "
        "replicas anew and spreads over those that came; inf: never.",
    )
    max_connection_age_grace_seconds: float = Field(
        60.0, gt=0, description="Time for requests at work on such a connection to end."
    )
    worker_threads: int = Field(2, ge=1, description="Threads that decode, resize and encode.")
    health_interval_seconds: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="How often health follows the model's readiness."
    )

    @property
    def most_calls(self) -> int:
        """Requests on their way and at work, and as many as come in one moment."""
        return 3 * self.max_concurrent_requests

    @property
    def max_message_bytes(self) -> int:
        """Largest gRPC message: the largest picture and room for the fields around it."""
        return self.max_image_bytes + 2**20


class TaskSettings(ServiceSettings):
    """Settings of a task service."""

    engine: Literal["triton", "onnxruntime"] = Field(
        "triton", description="Where the model runs: Triton, or this process (extra `local`)."
    )
    triton_url: str = Field("localhost:8001", description="Triton's gRPC address; dns:///… spreads over replicas.")
    reload_dead_model: bool = Field(
        False,
        description="Unload the model and load it again where Triton calls it ready and its process has died. For one "
        "Triton under explicit model control, whose backends run in processes of their own.",
    )
    model_repository: Path = Field(
        Path("models/repository/demo"), description="Model repository of the onnxruntime engine."
    )
    model_name: str = Field("", description="The model's name in the repository; default: the task's name.")
    score_threshold: float = Field(
        0.25, ge=0, le=1, description="Objects with a lower score are left out, where the request says nothing."
    )
    max_boxes: int = Field(1000, ge=1, description="Regions that a request may ask to be classified.")


Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(kind: type[Settings], program: str, purpose: str) -> Settings:
    """The settings as the environment gives them; prints them and exits on `--help`.

    A value that is not allowed ends the program with status 2 and names the variable and the reason.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description=purpose,
        epilog=f"Environment variables:\n{_describe(kind)}\n{_TRACES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    return make_settings(kind, program)


def make_settings(kind: type[Settings], program: str, **told: Any) -> Settings:
    """The settings as the environment gives them where they are not told here; ends as `read_settings` does."""
    try:
        return kind(**told)
    except ValidationError as error:
        _refuse(program, error)


def _describe(kind: type[BaseSettings]) -> str:
    lines = []
    for name, field in kind.model_fields.items():
        lines.append(
            f"  {name.upper()} ({_values(field.annotation)}, default: {field.default})\n      {field.description}"
        )
    return "\n".join(lines)


def _values(annotation: Any) -> str:
    choices = get_args(annotation)
    if NoneType in choices:
        return "path"
    return "|".join(map(str, choices)) or str(annotation.__name__)


def _usable(tls: TLS) -> None:
    try:
        tls.read()
    except OSError as error:
        raise ValueError(str(error)) from None


def _refuse(program: str, error: ValidationError) -> NoReturn:
    for problem in error.errors():
        variable = "_".join(str(part) for part in problem["loc"]).upper()
        print(
            f"{program}: {variable}: {problem['msg'].removeprefix('Value error, ')}, got {problem['input']!r}",
            file=sys.stderr,
        )
    raise SystemExit(2)
