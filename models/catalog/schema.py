"""What one YAML of the catalogue says about its model, validated."""

from __future__ import annotations

import reprlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models import yaml_file

CATALOG = Path(__file__).parent
LABELS = CATALOG / "labels"

Task = Literal["detection", "instance_segmentation", "semantic_segmentation", "classification"]
Adapter = Literal[
    "onnx",
    "ultralytics",
    "torchvision_detection",
    "torchvision_classifier",
    "detectron2",
    "bisenet",
    "trained",
]
Backend = Literal["onnxruntime", "openvino"]
"""Triton's backend that runs a profile's models."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DigestPrefix = Annotated[str, Field(pattern=r"^[0-9a-f]{8,63}$")]
Triple = tuple[float, float, float]
Kind = TypeVar("Kind", bound=BaseModel)


class CatalogError(ValueError):
    """An entry, a profile or a label file is missing or says something it may not; names the file and the key."""


class Strict(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageInput(Strict):
    """The picture that the model takes, in pixels, and how a service fits any picture to it.

    width, height: fixed size, for `letterbox` and `stretch`. shortest_edge, longest_edge: for `shortest_edge`, where
    every picture keeps its own proportions and the model takes any size. pad_value: grey level of the letterbox.
    """

    resize: Literal["letterbox", "stretch", "shortest_edge"]
    width: int = Field(default=0, ge=0, le=8192)
    height: int = Field(default=0, ge=0, le=8192)
    pad_value: int = Field(default=114, ge=0, le=255)
    shortest_edge: int = Field(default=0, ge=0, le=8192)
    longest_edge: int = Field(default=0, ge=0, le=8192)

    @model_validator(mode="after")
    def _has_the_sizes_of_its_rule(self) -> Self:
        expected = ("shortest_edge", "longest_edge") if self.resize == "shortest_edge" else ("width", "height")
        others = {"width", "height", "shortest_edge", "longest_edge"} - set(expected)
        missing = [key for key in expected if not getattr(self, key)]
        surplus = sorted(key for key in others if getattr(self, key))
        if missing or surplus:
            raise ValueError(f"resize {self.resize!r} needs {' and '.join(expected)} alone, found {_given(self)}")
        return self


class Pixels(Strict):
    """What the network wants its picture as: `(value * scale - mean) / std` per channel, in the channel order given."""

    channel_order: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)


class YoloHead(Strict):
    """A dense detector whose raw predictions still need decoding and non-maximum suppression.

    layout: `yolov8` [N,4+C+P,A] (v8, v9, 11: decoded boxes, class scores); `yolov5` [N,A,5+C+P] (v5, v7: decoded boxes,
    objectness, class scores); `yolox` [N,A,5+C] (boxes relative to the cells of a grid). A is the number of anchors,
    P the number of mask coefficients, 0 without masks. iou_threshold: of the class-wise non-maximum suppression.
    max_detections: K of the contract. mask_size: M of the contract.
    """

    kind: Literal["yolo"] = "yolo"
    layout: Literal["yolov8", "yolov5", "yolox"]
    score_threshold: float = Field(default=0.001, ge=0, lt=1)
    iou_threshold: float = Field(default=0.7, gt=0, le=1)
    max_detections: int = Field(default=300, ge=1, le=1000)
    mask_size: int = Field(default=0, ge=0, le=160)


class SemanticHead(Strict):
    """Per-pixel class logits [N,C,h,w]. stride: of the class map within the input; logits elsewhere are resized."""

    kind: Literal["semantic"] = "semantic"
    stride: Literal[1, 2, 4, 8] = 1


class ClassifierHead(Strict):
    """Class logits or probabilities [N,C]. drop_first: class 0 is a background that no label names."""

    kind: Literal["classifier"] = "classifier"
    output: Literal["logits", "probabilities"]
    drop_first: bool = False


class TwoStageHead(Strict):
    """A two-stage detector, which decodes its boxes itself. max_detections: K of the contract; mask_size: M."""

    kind: Literal["two_stage"] = "two_stage"
    score_threshold: float = Field(default=0.05, ge=0, lt=1)
    max_detections: int = Field(default=100, ge=1, le=1000)
    mask_size: Literal[0, 28] = 0


Head = Annotated[YoloHead | SemanticHead | ClassifierHead | TwoStageHead, Field(discriminator="kind")]


class Source(Strict):
    """Where the weights come from.

    file: name in the weights folders. url: upstream. sha256: of the file; sha256_prefix: its first digits, where
    upstream publishes no more (torchvision's file names carry eight). Without either, the file is never downloaded and
    is taken from a weights folder only beside a `<file>.sha256` that the user puts there.
    """

    file: str = Field(min_length=1)
    url: str | None = Field(default=None, pattern=r"^https://")
    sha256: Digest | None = None
    sha256_prefix: DigestPrefix | None = None

    @field_validator("file")
    @classmethod
    def _is_a_plain_name(cls, file: str) -> str:
        if Path(file).name != file:
            raise ValueError(f"expected a file name without folders, found {file!r}")
        return file

    @model_validator(mode="after")
    def _has_one_digest(self) -> Self:
        if self.sha256 and self.sha256_prefix:
            raise ValueError("expected sha256 or sha256_prefix, found both")
        return self

    @property
    def digest(self) -> str | None:
        """What the SHA-256 of the file has to begin with."""
        return self.sha256 or self.sha256_prefix


class Metric(Strict):
    """An accuracy that the exported model has to keep: within `tolerance` of `value`, or better."""

    dataset: str
    metric: str
    value: float
    tolerance: float = Field(ge=0)


class TrainedWith(Strict):
    """How a model of this project was made."""

    command: str
    data_seed: int
    device: str


class Entry(Strict):
    """One model of the catalogue.

    adapter: the module of `models/export` that makes the graph. architecture: the adapter's name of the network, such
    as `yolov8n` or `maskrcnn_resnet50_fpn`. max_batch_size: counts where the graph has a batch axis, which two-stage
    detectors have not. fp16_weights: store the weights as fp16 with a Cast, which halves the file.
    """

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    description: str
    task: Task
    adapter: Adapter
    architecture: str = ""
    image: ImageInput
    pixels: Pixels = Pixels()
    labels: tuple[str, ...] = Field(min_length=1)
    head: Head
    max_batch_size: int = Field(default=8, ge=0, le=128)
    fp16_weights: bool = True
    licence: str
    source: Source
    metrics: tuple[Metric, ...] = ()
    trained_with: TrainedWith | None = None

    @model_validator(mode="after")
    def _head_fits_the_task(self) -> Self:
        kinds = {
            "detection": {"yolo", "two_stage"},
            "instance_segmentation": {"yolo", "two_stage"},
            "semantic_segmentation": {"semantic"},
            "classification": {"classifier"},
        }[self.task]
        if self.head.kind not in kinds:
            raise ValueError(f"head: task {self.task} needs kind {' or '.join(sorted(kinds))}, found {self.head.kind}")
        if isinstance(self.head, YoloHead | TwoStageHead):
            self._masks_fit_the_task(self.head.mask_size)
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels: each may stand once, found twice: {_twice(self.labels)}")
        return self

    def _masks_fit_the_task(self, mask_size: int) -> None:
        if bool(mask_size) != (self.task == "instance_segmentation"):
            raise ValueError(
                f"head.mask_size: a size for instance_segmentation alone, found {mask_size} for {self.task}"
            )


class Profile(Strict):
    """Which entry serves which task; a task may be left out.

    backend: of Triton, for all of its models. OpenVINO computes in bfloat16 on CPUs that are made for it.
    taxonomy: the gateway's categories for it; the one that is called as the profile where this is empty.
    samples: pictures, folders and videos below PERCEPTION_DATA that show what the profile does; none: made scenes.
    cameras: sources by name that show the profile live: `scenes:…` as the camera agent reads it, or a video below
        PERCEPTION_DATA.
    """

    name: str
    description: str
    tasks: dict[Task, str] = Field(min_length=1)
    backend: Backend = "onnxruntime"
    taxonomy: str = ""
    samples: tuple[str, ...] = ()
    cameras: dict[str, str] = {}


def load_entry(name: str, catalog: Path = CATALOG) -> Entry:
    """Return the entry `<name>.yaml`; `labels: <file>` stands for the list in `labels/<file>.yaml`.

    Raises:
        CatalogError: no such entry, an unknown key, or a value that does not fit; names file and key.
    """
    if name not in entry_names(catalog):
        raise CatalogError(f"expected an entry of {', '.join(entry_names(catalog)) or catalog}, found {name!r}")
    path = catalog / f"{name}.yaml"
    content = read_yaml(path)
    if isinstance(content.get("labels"), str):
        content["labels"] = load_labels(content["labels"], path)
    entry = validated(Entry, content, path)
    if entry.name != name:
        raise CatalogError(f"{path}: name: expected {name!r} as the file is called, found {entry.name!r}")
    return entry


def load_entries(catalog: Path = CATALOG) -> tuple[Entry, ...]:
    """Return every entry, by name. Raises `CatalogError` as `load_entry` does."""
    return tuple(load_entry(name, catalog) for name in entry_names(catalog))


def entry_names(catalog: Path = CATALOG) -> tuple[str, ...]:
    """Names of all entries."""
    return _names(catalog)


def _names(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def load_profile(name: str, profiles: Path = CATALOG.parent / "profiles") -> Profile:
    """Return the profile `<name>.yaml`.

    Raises:
        CatalogError: no such profile, or it is wrong; names file and key.
    """
    if name not in _names(profiles):
        raise CatalogError(f"expected a profile of {', '.join(_names(profiles)) or profiles}, found {name!r}")
    path = profiles / f"{name}.yaml"
    return validated(Profile, read_yaml(path), path)


@cache
def load_labels(name: str, asked_by: Path = CATALOG) -> tuple[str, ...]:
    """Return the list of names in `labels/<name>.yaml`, in the order of the class ids.

    Raises:
        CatalogError: no such file, or no list of names.
    """
    if name not in _names(LABELS):
        known = ", ".join(_names(LABELS))
        raise CatalogError(f"{asked_by}: labels: expected a list or one of {known}, found {name!r}")
    path = LABELS / f"{name}.yaml"
    labels = _parsed(path)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise CatalogError(f"{path}: expected a list of names (quote those that YAML reads as something else)")
    return tuple(labels)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping a YAML file holds. Raises `CatalogError` where it holds something else."""
    content = _parsed(path)
    if not isinstance(content, dict):
        raise CatalogError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


def _parsed(path: Path) -> Any:
    try:
        return yaml_file.read_yaml(path)
    except (OSError, yaml_file.YamlError) as error:
        raise CatalogError(f"{path}: {error}") from error


def validated(kind: type[Kind], content: dict[str, Any], path: Path) -> Kind:
    """Return `content` as `kind`. Raises `CatalogError` with file, key and reason of everything wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise CatalogError("\n".join(_problem(path, problem) for problem in error.errors())) from error


def _problem(path: Path, problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{path}: {key}: no such key"
    reason = problem["msg"].removeprefix("Value error, ")
    found = "" if problem["type"] in ("missing", "value_error") else f", found {reprlib.repr(problem['input'])}"
    return f"{path}: {key}: {reason}{found}" if key else f"{path}: {reason}{found}"


def _given(model: BaseModel) -> str:
    return ", ".join(f"{key} {getattr(model, key)}" for key in sorted(model.model_fields_set))


def _twice(labels: tuple[str, ...]) -> str:
    return ", ".join(sorted({label for label in labels if labels.count(label) > 1}))
