"""What an engine is, and what it says about its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Task = Literal["detection", "instance_segmentation", "semantic_segmentation", "classification"]
ResizeKind = Literal["letterbox", "stretch", "shortest_edge"]


class Priority(IntEnum):
    """How urgent a request is among those that wait for a model. The numbers are Triton's: the lowest comes first."""

    HIGH = 1
    NORMAL = 2
    LOW = 3


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model. shape excludes the batch axis; -1 is any size. datatype is Triton's: UINT8, …"""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ResizeRule:
    """How a picture is fitted to the model's input.

    kind: `letterbox` keeps the aspect ratio and pads evenly on both sides with `pad_value` (0..255); `stretch` does not
    keep it; `shortest_edge` scales the shorter side to `shortest_edge` pixels unless the longer one would exceed
    `longest_edge`, without padding.
    """

    kind: ResizeKind
    pad_value: int = 114
    shortest_edge: int = 0
    longest_edge: int = 0


@dataclass(frozen=True)
class Model:
    """A model as its repository configures it; everything that a service knows about its model."""

    name: str
    version: str
    task: Task
    labels: tuple[str, ...]
    resize: ResizeRule
    max_batch_size: int
    """0: the model has no batch axis."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    catalog_entry: str
    weights_sha256: str

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the picture that the model takes; (-1, -1) where it takes any."""
        height, width = self.inputs[0].shape[:2]
        return height, width


@dataclass(frozen=True)
class Inference:
    """The output tensors of one call, by name, with the batch axis where the model has one, and who computed them."""

    outputs: Mapping[str, NDArray[np.generic]]
    model_version: str


class Engine(Protocol):
    """Runs one model."""

    async def describe(self) -> Model:
        """The model as it is loaded now.

        Raises `EngineUnavailable`, `ModelUnavailable`, or `ContractViolation` where its configuration breaks the
        contract of its task.
        """
        ...

    async def infer(
        self,
        inputs: Mapping[str, NDArray[np.generic]],
        timeout_seconds: float,
        request_id: str = "",
        priority: Priority = Priority.NORMAL,
    ) -> Inference:
        """Runs the model once.

        inputs: every input tensor by name, with the batch axis where the model has one. The time allowed is passed on
        to the engine. priority: which of the waiting requests come first. The arrays of the answer may be read-only.
        Raises `EngineUnavailable`, `ModelUnavailable`, `InferenceFailed`, `DeadlineExceeded`, `Overloaded` where the
        engine's queue is full, and `ContractViolation` where the model does not take these inputs.
        """
        ...

    async def ready(self) -> bool:
        """Whether the model answers: the engine says so and a real inference went through. Never raises."""
        ...

    async def close(self) -> None:
        """Gives back channels and threads."""
        ...
