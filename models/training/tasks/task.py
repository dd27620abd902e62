"""What a training run needs to know about its task."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from models.training.config import RunConfig
from models.training.frame_cache import Frames

Batch = Any
"""What a task's `batch` makes: tensors, in tuples, lists and mappings of the task's choice."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Task(ABC):
    """Makes batches, the loss and the validation of one kind of model.

    Attributes:
        labels: names of the classes in the order of the model's class indices.
        input_size: (width, height) in pixels of the pictures that the model is trained for.
        mean: per RGB channel of pixels scaled to [0, 1], what the model's input is normalised with; so is `std`.
        headline: the validation metric by which a run is judged, among those `validate` returns.
    """

    headline: ClassVar[str]
    mean: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    std: ClassVar[tuple[float, float, float]] = (1.0, 1.0, 1.0)

    def __init__(self, config: RunConfig, train: Frames, validation: Frames) -> None:
        self.config = config
        self.train = train
        self.validation = validation
        self.labels: tuple[str, ...] = train.labels
        self.input_size = train.size

    def __len__(self) -> int:
        """Return the number of training examples."""
        return len(self.train)

    @abstractmethod
    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return the examples with these indices, augmented with torch's global random generator."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean loss of a batch that `batch` made and the loop moved to the model's device."""

    @abstractmethod
    def validate(self, model: nn.Module) -> dict[str, float]:
        """Measure a model in eval mode on the validation split; every metric is in [0, 1]."""
