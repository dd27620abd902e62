"""Makes the chart's README.md and values.schema.json: `python -m deploy.helm.chart_documents`, `--check` to compare.

The README's table comes from the comments in values.yaml, one above each key. The schema is values.schema.yaml with the
settings that the services' own code declares, so that a misspelt or impossible setting ends `helm install`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from deploy.generated import command
from services.camera.settings import CameraSettings
from services.gateway.settings import GatewaySettings
from services.runtime.settings import TaskSettings
from services.viewer.settings import ViewerSettings

_HELM = Path(__file__).parent
CHART = _HELM / "perception"
INTRODUCTION = _HELM / "introduction.md"
BASE_SCHEMA = _HELM / "values.schema.yaml"

_SETTINGS: dict[str, type[BaseModel]] = {
    "gatewaySettings": GatewaySettings,
    "taskSettings": TaskSettings,
    "viewerSettings": ViewerSettings,
}
OF_THE_CHART = {
    *("host", "port", "metrics_port", "log_level", "drain_seconds", "max_connection_age_seconds"),
    *("detection_url", "instance_segmentation_url", "semantic_segmentation_url", "classification_url", "taxonomy"),
    *("engine", "triton_url", "model_repository", "model_name"),
    *("camera_agents", "gateway_url"),
    *("tls_certificate_file", "tls_key_file", "tls_ca_file", "tls_client_authentication", "health_port"),
    *("authentication", "authentication_tokens_file", "authentication_jwks"),
    *("authentication_issuer", "authentication_audience", "token_file"),
}
"""Settings that templates give, from other values."""


@dataclass(frozen=True)
class Value:
    """One key of values.yaml. path: such as `gateway.replicas`. default: None for a section, which has keys itself."""

    path: str
    default: str | None
    comment: str


def values() -> Iterator[Value]:
    """Every key of values.yaml in its order. Raises `ValueError` for one without a comment above it."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _values(root, text.splitlines(), "")


def readme() -> str:
    """The chart's README: what was written by hand, and the table of its values."""
    lines = [INTRODUCTION.read_text(encoding="utf-8").rstrip(), "", "## Values", ""]
    lines += ["| key | default | |", "|---|---|---|"]
    for value in values():
        default = "" if value.default is None else f"`{value.default}`".replace("|", "\\|")
        key = f"**`{value.path}`**" if value.default is None else f"`{value.path}`"
        comment = value.comment.replace("|", "\\|")
        lines.append(f"| {key} | {default} | {comment} |")
    return "\n".join(lines) + "\n"


def schema() -> str:
    """The chart's values.schema.json."""
    whole = yaml.safe_load(BASE_SCHEMA.read_text(encoding="utf-8"))
    for name, kind in _SETTINGS.items():
        whole["definitions"][name] = _settings_schema(kind)
    cameras = CameraSettings.model_json_schema(ref_template="#/definitions/{model}")
    whole["definitions"] |= {**cameras.pop("$defs"), "camera": cameras}
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _values(node: yaml.MappingNode, lines: list[str], prefix: str) -> Iterator[Value]:
    for key, child in node.value:
        path = f"{prefix}.{_quoted(key.value)}" if prefix else _quoted(key.value)
        comment = _comment_above(lines, key.start_mark.line)
        if not comment:
            raise ValueError(
                f"values.yaml, line {key.start_mark.line + 1}: expected a comment above {path}, found none"
            )
        if isinstance(child, yaml.MappingNode) and child.value and not child.flow_style:
            yield Value(path, None, comment)
            yield from _values(child, lines, path)
        else:
            default = yaml.safe_load(yaml.serialize(child))
            yield Value(path, json.dumps(default, ensure_ascii=False), comment)


def _quoted(key: str) -> str:
    return f'"{key}"' if "." in key else key


def _comment_above(lines: list[str], line: int) -> str:
    words: list[str] = []
    while line and lines[line - 1].lstrip().startswith("# ") and not lines[line - 1].endswith("---"):
        line -= 1
        words.insert(0, lines[line].lstrip().removeprefix("# "))
    return " ".join(words)


def _settings_schema(kind: type[BaseModel]) -> dict[str, Any]:
    properties = kind.model_json_schema()["properties"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            # JSON has no word for infinity.
            name.upper(): {key: value for key, value in declared.items() if key != "title" and value != math.inf}
            for name, declared in properties.items()
            if name not in OF_THE_CHART
        },
    }


def documents() -> dict[Path, str]:
    """What the files that are made must hold."""
    return {CHART / "README.md": readme(), CHART / "values.schema.json": schema()}


if __name__ == "__main__":
    command("python -m deploy.helm.chart_documents", "Make the chart's README.md and values.schema.json.", documents)
