"""What the viewer can be told, by environment variables."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from services.runtime.authentication import AuthenticationSettings
from services.runtime.settings import CallerSettings


class ViewerSettings(CallerSettings, AuthenticationSettings):
    """Settings of the viewer. Lists are separated by commas."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all, as in a container.")
    port: int = Field(8080, ge=0, le=65535, description="HTTP port of the page; 0 takes a free one.")
    metrics_port: int = Field(9080, ge=0, le=65535, description="HTTP port of /metrics; 0 takes a free one.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least level that is logged.")
    camera_agents: str = Field("localhost:50060", description="Addresses of the camera agents.")
    gateway_url: str = Field("", description="Address of the gateway; without one no pictures can be dropped.")
    allowed_origins: str = Field(
        "", description="Origins besides the page's own, such as https://cameras.example.org behind a proxy."
    )
    max_image_bytes: int = Field(32 * 2**20, ge=1, description="Largest picture that may be dropped, in bytes.")
    max_uploads: int = Field(4, ge=1, description="Dropped pictures at work at once; more are refused.")
    max_pages: int = Field(100, ge=1, description="Sockets of pages at once; more are refused.")
    max_connections: int = Field(
        500, ge=1, description="Connections at once, those of pages among them; more are refused."
    )
    receive_seconds: float = Field(
        75.0,
        gt=0,
        allow_inf_nan=False,
        description="Time for a request to arrive as a whole; a connection on which none does is closed. Longer than a "
        "proxy keeps one, which is a minute for most.",
    )
    perceive_timeout_seconds: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="Time for the gateway to perceive a dropped picture."
    )
    drain_seconds: float = Field(
        5.0, ge=0, allow_inf_nan=False, description="Time for requests at work to end after SIGTERM."
    )

    @property
    def agent_addresses(self) -> tuple[str, ...]:
        """The agents, each once, in order."""
        return _split(self.camera_agents)

    @property
    def other_origins(self) -> tuple[str, ...]:
        """Origins besides the page's own."""
        return _split(self.allowed_origins)

    @property
    def max_message_bytes(self) -> int:
        """Largest gRPC message: the largest picture, and room for the maps and fields of its scene."""
        return 2 * self.max_image_bytes + 2**20


def _split(values: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.strip() for value in values.split(",") if value.strip()))
