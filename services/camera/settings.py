"""What a camera agent is told, by a file: `cameras.yaml`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from services.camera.capture.options import CaptureOptions, SourceKind
from services.runtime.settings import CallerSettings

Kind = SourceKind | Literal["scenes"]
_SCHEMES: dict[str, Kind] = {
    "rtsp": "rtsp",
    "rtsps": "rtsp",
    "http": "http",
    "https": "http",
    "scenes": "scenes",
}
_FOLDER_FRAMES_PER_SECOND = 10.0
_VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".ts"}


class SettingsError(ValueError):
    """A file that an agent cannot run with; the message names file, key and reason, a line for each mistake."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamSettings(_Part):
    """How the gateway is to treat a camera's stream (see StreamOptions in protos/perception/v1/perception.proto)."""

    deadline_seconds: float | None = Field(default=None, ge=0.001, allow_inf_nan=False)
    max_in_flight: int | None = Field(default=None, ge=1, le=1000)
    priority: Literal["high", "normal", "low"] = "normal"
    track: bool = True


class JsonlSink(_Part):
    """A line of JSON for each answer."""

    kind: Literal["jsonl"]
    path: Path


class CocoVideoSink(_Part):
    """A COCO file of the video: its images, categories, and things with their identities."""

    kind: Literal["coco_video"]
    path: Path


class AnnotatedVideoSink(_Part):
    """An H.264 film of the pictures with their scenes drawn over them."""

    kind: Literal["annotated_video"]
    path: Path

    @field_validator("path")
    @classmethod
    def _is_mp4(cls, path: Path) -> Path:
        if path.suffix != ".mp4":
            raise ValueError(f"expected an .mp4 file, found {path}")
        return path


SinkSettings = Annotated[JsonlSink | CocoVideoSink | AnnotatedVideoSink, Field(discriminator="kind")]


class ScenesSettings(_Part):
    """The query of a source such as `scenes:street?seed=1&length=250`."""

    world: Literal["street", "line"]
    seed: int = Field(0, ge=0)
    length: int = Field(250, ge=1, le=10_000)
    width: int = Field(640, ge=64, le=4096, multiple_of=2)
    height: int = Field(480, ge=64, le=4096, multiple_of=2)

    @classmethod
    def read(cls, source: str) -> ScenesSettings:
        """The scenes of a source. Raises `ValueError` for one that is none."""
        parts = urlsplit(source)
        values = {"world": parts.path, **dict(parse_qsl(parts.query, keep_blank_values=True))}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError(f"{source}: {'; '.join(_mistakes(error, values))}") from None


class CameraSettings(_Part):
    """One camera: where its frames come from, how they are sent, and where the answers go."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    source: str = Field(min_length=1)
    transport: Literal["tcp", "udp"] = "tcp"
    pace: Literal["real_time", "as_fast_as_possible"] = "real_time"
    loop: bool = False
    frames_per_second: float | None = Field(None, gt=0, le=1000, allow_inf_nan=False)
    max_width: int | None = Field(None, ge=16)
    max_height: int | None = Field(None, ge=16)
    jpeg_quality: int = Field(85, ge=1, le=100)
    connect_seconds: float = Field(10.0, gt=0, allow_inf_nan=False)
    stall_seconds: float = Field(5.0, gt=0, allow_inf_nan=False)
    retry_seconds: float = Field(1.0, gt=0, allow_inf_nan=False)
    max_retry_seconds: float = Field(30.0, gt=0, allow_inf_nan=False)
    stream: StreamSettings = StreamSettings()
    sinks: tuple[SinkSettings, ...] = ()

    @property
    def kind(self) -> Kind:
        """What the source is, as its text says; what has no known beginning is a path."""
        scheme = _SCHEMES.get(self.source.partition(":")[0].lower())
        if scheme:
            return scheme
        if self.source.startswith("/dev/video"):
            return "v4l2"
        return "video" if Path(self.source).suffix.lower() in _VIDEO_SUFFIXES else "images"

    @model_validator(mode="before")
    @classmethod
    def _keys_fit_source(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("source"), str):
            return values
        kind = cls.model_construct(source=values["source"]).kind
        for key, kinds in _KEYS_OF.items():
            if key in values and kind not in kinds:
                raise ValueError(f"{key}: expected only with a source of {' or '.join(kinds)}, found one of {kind}")
        if kind == "scenes":
            ScenesSettings.read(values["source"])
        return values

    @model_validator(mode="after")
    def _backoff_grows(self) -> CameraSettings:
        if self.max_retry_seconds < self.retry_seconds:
            raise ValueError(
                f"max_retry_seconds: expected at least retry_seconds {self.retry_seconds}, "
                f"found {self.max_retry_seconds}"
            )
        return self

    def capture_options(self, film: Path | None = None) -> CaptureOptions:
        """What the capture process is told; `film`: the film of a source of scenes."""
        kind = self.kind
        return CaptureOptions(
            kind="video" if kind == "scenes" else kind,
            location=str(film or self.source),
            transport=self.transport,
            is_paced=self.pace == "real_time",
            loop=self.loop,
            frames_per_second=self.frames_per_second or (_FOLDER_FRAMES_PER_SECOND if kind == "images" else None),
            max_width=self.max_width,
            max_height=self.max_height,
            jpeg_quality=self.jpeg_quality,
        )


_FILES: tuple[Kind, ...] = ("video", "images", "scenes")
_KEYS_OF: dict[str, tuple[Kind, ...]] = {"transport": ("rtsp",), "pace": _FILES, "loop": _FILES}
"""Keys that mean something for some sources alone."""


class AgentSettings(_Part):
    """One agent: the gateway that it sends to, its own ports, and its cameras."""

    gateway: str = Field("localhost:50050", min_length=1)
    host: str = "0.0.0.0"  # noqa: S104 - a container listens on all
    port: int = Field(50060, ge=0, le=65535)
    metrics_port: int = Field(9060, ge=0, le=65535)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    cameras: tuple[CameraSettings, ...]

    @model_validator(mode="after")
    def _some_and_none_twice(self) -> AgentSettings:
        if not self.cameras:
            raise ValueError("cameras: expected at least one")
        for what, values in (
            ("cameras of one name", [camera.name for camera in self.cameras]),
            ("sinks of one path", [str(sink.path.resolve()) for camera in self.cameras for sink in camera.sinks]),
        ):
            twice = [value for value, number in Counter(values).items() if number > 1]
            if twice:
                raise ValueError(f"expected no two {what}, found {', '.join(twice)}")
        return self


class AgentEnvironment(CallerSettings):
    """What an agent is told by environment variables, as every service is."""

    health_port: int = Field(0, ge=0, le=65535, description="As of every service.")


def read_settings(path: Path) -> AgentSettings:
    """The settings of a file. Raises `SettingsError` for one that cannot be read or holds what is not allowed."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected keys such as gateway and cameras, found {values!r:.60}")
    try:
        return AgentSettings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{path}: {line}" for line in _mistakes(error, values))) from None


def _mistakes(error: ValidationError, values: dict[str, Any]) -> Iterator[str]:
    for mistake in error.errors():
        place = _place(mistake["loc"], values)
        if mistake["type"] == "extra_forbidden":
            yield f"{place}: unknown key"
        elif mistake["type"] == "missing":
            yield f"{place}: missing"
        elif mistake["type"] == "value_error":
            yield f"{place}: {mistake['msg'].removeprefix('Value error, ')}" if place else mistake["ctx"]["error"]
        else:
            yield f"{place}: {mistake['msg']}, found {mistake['input']!r:.60}"


def _place(location: tuple[int | str, ...], values: dict[str, Any]) -> str:
    """The path of a key, such as `cameras[0] (gate).source`."""
    place = ""
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
            name = values["cameras"][part].get("name") if place == f"cameras[{part}]" else None
            place += f" ({name})" if isinstance(name, str) else ""
        elif part not in ("jsonl", "coco_video", "annotated_video"):  # which of the sinks' models it is
            place += f".{part}" if place else part
    return place
