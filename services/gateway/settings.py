"""What the gateway can be told, by environment variables."""

from __future__ import annotations

from pydantic import Field

from services.runtime.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """Settings of the gateway. An empty address leaves the task out of the system."""

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
