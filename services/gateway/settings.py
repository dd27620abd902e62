"""What the gateway can be told, by environment variables."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from services.runtime.authentication import AuthenticationSettings
from services.runtime.settings import ServiceSettings


class GatewaySettings(ServiceSettings, AuthenticationSettings):
    """Settings of the gateway. An empty address leaves the task out of the system."""

    max_connection_age_grace_seconds: float = Field(
        1800.0,
        gt=0,
        description="Time for requests at work on such a connection to end. A camera stream is ended by itself within "
        "it, with every frame answered; its camera goes on with another one, whose ids of tracks are new.",
    )
    detection_url: str = Field("", description="Address of the detection service.")
    instance_segmentation_url: str = Field("", description="Address of the instance segmentation service.")
    semantic_segmentation_url: str = Field("", description="Address of the semantic segmentation service.")
    classification_url: str = Field("", description="Address of the classification service.")
    taxonomy: str = Field("demo", description="Name of a taxonomy in services/gateway/taxonomies, or path of a file.")
    score_threshold: float = Field(
        0.25, ge=0, le=1, description="Objects with a lower score are left out, where the request says nothing."
    )
    task_deadline_share: float = Field(
        0.8, gt=0, lt=1, description="Part of a request's time for detection and segmentation to answer."
    )
    classification_deadline_share: float = Field(
        0.5, gt=0, lt=1, description="Part of the time that is then left for classification to answer."
    )
    max_shared_pictures: int = Field(
        16,
        ge=1,
        le=1000,
        description="Pictures in SHARED_PICTURES_DIRECTORY at once, of at most 4096 x 2304 pixels, 27 MiB; the others "
        "are sent to each task.",
    )
    max_segments: int = Field(
        1000, ge=1, le=65535, description="Segments of a scene; of more the best things are kept, then stuff."
    )
    max_streams: int = Field(64, ge=1, description="Camera streams open at once; more are refused.")
    stream_capacity: int = Field(
        8, ge=1, description="Frames at work at once over all streams, shared out fairly between them."
    )
    stream_max_in_flight: int = Field(
        1,
        ge=1,
        description="Frames of one stream at work at once, where the stream says nothing: "
        "1 gives the freshest answers, 2 more of them.",
    )
    stream_max_in_flight_limit: int = Field(8, ge=1, description="The most that a stream may ask for.")
    stream_max_unanswered: int = Field(
        128,
        ge=2,
        description="Frames of one stream that were read and whose answer is not taken yet; then no more are read.",
    )
    stream_idle_seconds: float = Field(
        120.0, gt=0, description="Time for which a stream may bring no frame; then it is ended."
    )
    stream_deadline_seconds: float = Field(
        2.0,
        ge=0.001,
        allow_inf_nan=False,
        description="Time from a frame's capture to its answer, where the stream says nothing.",
    )
    stream_deadline_limit_seconds: float = Field(
        60.0, ge=0.001, allow_inf_nan=False, description="The longest that a stream may ask for."
    )

    @property
    def most_calls(self) -> int:
        """With the streams."""
        return super().most_calls + self.max_streams

    @field_validator("stream_max_in_flight_limit", "stream_deadline_limit_seconds")
    @classmethod
    def _not_below_the_default(cls, limit: float, info: ValidationInfo) -> float:
        name = str(info.field_name).replace("_limit", "")
        default = info.data.get(name)
        if default is not None and limit < default:
            raise ValueError(f"is less than {name.upper()}, {default}")
        return limit
