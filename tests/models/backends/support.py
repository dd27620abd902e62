"""A configuration as Triton hands it to a backend."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig


def as_triton_gives_it(config: ModelConfig) -> dict[str, Any]:
    """Triton hands the configuration to a Python backend as JSON with proto field names."""
    return dict(json_format.MessageToDict(config, preserving_proto_field_name=True))
