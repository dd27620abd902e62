"""What one training run is made of: one YAML file a run in `models/training/configs/`."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.yaml_file import YamlError, read_yaml

CONFIG_FOLDER = Path(__file__).parent / "configs"

SeedRange = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
Probability = Annotated[float, Field(ge=0, le=1)]


class ConfigError(ValueError):
    """A run's configuration is missing or wrong; the message names the file, the field and what was found."""


class Strict(BaseModel):
    """Refuses fields it does not know, so that a misspelt option is an error and not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CamVid(Strict):
    """CamVid frames under $PERCEPTION_DATA: 480x360, 11 classes, 255 = ignore."""

    name: Literal["camvid"]
    train: str = "train"
    validation: str = "val_0016E5_15hz"


class Scenes(Strict):
    """The procedural camera: every seed is one short sequence of every world, rendered at `width` x `height` pixels.

    `train_seeds` and `validation_seeds` are half-open ranges and may not overlap, so validation shows unseen scenes.
    """

    name: Literal["scenes"]
    worlds: tuple[Literal["street", "line"], ...] = ("street", "line")
    train_seeds: SeedRange
    validation_seeds: SeedRange
    frames_per_sequence: int = Field(ge=1)
    width: int = Field(ge=32)
    height: int = Field(ge=32)

    @model_validator(mode="after")
    def _unseen_validation(self) -> "Scenes":
        for first, end in (self.train_seeds, self.validation_seeds):
            if first >= end:
                raise ValueError(f"expected a range [first, end) of seeds with first < end, found [{first}, {end})")
        if self.train_seeds[0] < self.validation_seeds[1] and self.validation_seeds[0] < self.train_seeds[1]:
            raise ValueError(f"train_seeds {self.train_seeds} and validation_seeds {self.validation_seeds} overlap")
        return self


class Augmentation(Strict):
    """Random changes of the training pictures, all torchvision's.

    `scale` is the range of the random size, `crop` the (width, height) in pixels of what is then cut out (without it
    the whole picture is used), `colour_jitter` the strength of changes in brightness, contrast, saturation and hue.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    horizontal_flip: Probability = 0.5
    colour_jitter: Probability = 0.0


class Architecture(Strict):
    """Which model, and the arguments of its constructor beside the number of classes."""

    name: Literal["bisenet", "yolo", "mask_rcnn", "faster_rcnn", "classifier"]
    options: dict[str, Any] = {}


class InitialWeights(Strict):
    """Parameters to start from instead of random ones: all of this model's whose names begin with `target`.

    They come from an earlier run's model, where their names begin with `prefix` instead.
    """

    run: str
    prefix: str
    target: str


class RunConfig(Strict):
    """One run. Rates are per step; a step is one batch; `ema_decay` is that of the averaged weights."""

    name: str
    architecture: Architecture
    dataset: Annotated[CamVid | Scenes, Field(discriminator="name")]
    augmentation: Augmentation = Augmentation()
    initial_weights: InitialWeights | None = None
    seed: int = 0
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    gradient_clip: float = Field(default=10.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["bf16", "fp32"] = "bf16"
    validate_every: int = Field(ge=1)


def available_runs() -> list[str]:
    """Names of the runs that have a configuration."""
    return sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml"))


def load_config(name_or_path: str | Path, **overrides: Any) -> RunConfig:
    """Read a run's configuration.

    Args:
        name_or_path: a run of `available_runs()`, or the path of a YAML file.
        overrides: top-level fields to replace.

    Raises:
        ConfigError: no such run, no YAML, or a field that is missing, unknown or out of range.
    """
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = CONFIG_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        raise ConfigError(f"no configuration {path}; expected one of {', '.join(available_runs())}, or a YAML file")
    try:
        fields = read_yaml(path)
    except YamlError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{path}: expected a mapping of fields, found {type(fields).__name__}")
    try:
        return RunConfig.model_validate({"name": path.stem} | fields | overrides)
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}, found {problem['input']!r}"
            for problem in error.errors()
        )
        raise ConfigError(f"{path}: " + "; ".join(problems)) from error
