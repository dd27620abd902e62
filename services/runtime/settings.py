"""What every service can be told, by environment variables."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

_TRACES = """\
  OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, … (OpenTelemetry's own, default: no traces)
      Collector of traces, OTLP over gRPC; docs/monitoring.md."""


class ServiceSettings(BaseSettings):
    """Settings of every service."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    host: str = Field("0.0.0.0", description="Address to listen on.")  # noqa: S104 - a container listens on all
    port: int = Field(50050, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    metrics_port: int = Field(9090, ge=0, le=65535, description="HTTP port of /metrics; 0 takes a free one.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    max_image_bytes: int = Field(32 * 2**20, ge=1, description="Largest picture, encoded or raw, in bytes.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest picture in pixels, read from its header.")
    max_metadata_bytes: int = Field(
        8192, ge=1024, description="Largest metadata of a request, as HTTP/2 counts headers."
    )
    max_concurrent_requests: int = Field(64, ge=1, description="Requests at work at once; more are refused.")
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
    try:
        return kind()
    except ValidationError as error:
        _refuse(program, error)


def _describe(kind: type[BaseSettings]) -> str:
    lines = []
    for name, field in kind.model_fields.items():
        kind_of_value: Any = field.annotation
        values = "|".join(map(str, get_args(kind_of_value))) or kind_of_value.__name__
        lines.append(f"  {name.upper()} ({values}, default: {field.default})\n      {field.description}")
    return "\n".join(lines)


def _refuse(program: str, error: ValidationError) -> NoReturn:
    for problem in error.errors():
        variable = "_".join(str(part) for part in problem["loc"]).upper()
        print(f"{program}: {variable}: {problem['msg']}, got {problem['input']!r}", file=sys.stderr)
    raise SystemExit(2)
