"""Training a classifier of crops: is a thing intact or damaged?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from models.datasets.sample import mask_box
from models.training.config import ConfigError, RunConfig
from models.training.frame_cache import Frames
from models.training.tasks.task import IMAGENET_MEAN, IMAGENET_STD, Batch, Task
from models.training.tensors import device_of, normalise

ATTRIBUTE = "condition"
LABELS = ("intact", "damaged")
WITHOUT_ATTRIBUTE = "intact"
STATED_PER_OTHER = 3  # training crops with the attribute for each one without
BOX_JITTER = 0.08  # by how much of its size a detector's box may miss on each side
VALIDATION_BATCH = 64


@dataclass(frozen=True)
class Crop:
    """Where an example is: a frame, a box xyxy in its pixels, the class, and whether the truth states it.

    `whole` says that the box stays clear of the frame's border: what lies beyond it may be the damaged part.
    """

    frame: int
    box: tuple[float, float, float, float]
    label: int
    stated: bool
    whole: bool


class Classification(Task):
    """Crops of things, stretched to one size, with the attribute `condition` as class.

    Parcels that the frame's border cuts are not trained on and are validated apart: the damage may lie beyond it.
    Things for which the scenes state no condition (those of the street) are never damaged there; they are trained as
    intact, so that the classifier stays quiet about them, and validated apart from the parcels.
    """

    headline = "accuracy"
    mean: ClassVar = IMAGENET_MEAN
    std: ClassVar = IMAGENET_STD

    def __init__(self, config: RunConfig, train: Frames, validation: Frames) -> None:
        super().__init__(config, train, validation)
        if config.augmentation.crop is None:
            raise ConfigError(f"{config.name}: a classifier needs augmentation.crop, the (width, height) of its input")
        self.labels = LABELS
        self.input_size = config.augmentation.crop
        self.crops = _mostly_stated([crop for crop in _crops(train) if crop.whole])
        self.validation_crops = _crops(validation)
        strength = config.augmentation.colour_jitter
        self.augment = v2.Compose(
            [
                v2.RandomHorizontalFlip(config.augmentation.horizontal_flip),
                v2.ColorJitter(strength, strength, strength, hue=strength / 10),
            ]
        )

    def __len__(self) -> int:
        """Return the number of crops."""
        return len(self.crops)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return crops uint8 [B,3,h,w] and classes int64 [B]."""
        crops = [self.crops[index] for index in indices]
        images = [self.augment(self._cut(self.train, crop, jitter=BOX_JITTER)) for crop in crops]
        return torch.stack(images), torch.tensor([crop.label for crop in crops])

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the cross entropy."""
        images, labels = batch
        return functional.cross_entropy(model(normalise(images, self.mean, self.std)).float(), labels)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the accuracy on whole parcels, on each class of them, on cut ones, and on things of other kinds."""
        predicted = []
        for start in range(0, len(self.validation_crops), VALIDATION_BATCH):
            crops = self.validation_crops[start : start + VALIDATION_BATCH]
            images = torch.stack([self._cut(self.validation, crop, jitter=0) for crop in crops]).to(device_of(model))
            predicted.append(model(normalise(images, self.mean, self.std)).argmax(dim=1).cpu().numpy())
        labels = np.array([crop.label for crop in self.validation_crops])
        stated = np.array([crop.stated for crop in self.validation_crops])
        whole = np.array([crop.whole for crop in self.validation_crops])
        correct = np.concatenate(predicted) == labels
        groups = {"accuracy": stated & whole, "accuracy/cut": stated & ~whole, "accuracy/without_attribute": ~stated}
        groups |= {f"accuracy/{name}": stated & whole & (labels == index) for index, name in enumerate(LABELS)}
        return {name: float(correct[members].mean()) for name, members in groups.items() if members.any()}

    def _cut(self, frames: Frames, crop: Crop, *, jitter: float) -> Tensor:
        """Return a crop uint8 [3,h,w], its box moved at random by at most `jitter` of its size on each side."""
        x0, y0, x1, y1 = crop.box
        size = torch.tensor([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
        box = torch.tensor(crop.box) + size * jitter * (2 * torch.rand(4) - 1)
        left, top, right, bottom = box.round().int().tolist()
        frame = torch.from_numpy(np.array(frames.images[crop.frame])).permute(2, 0, 1)
        width, height = self.input_size
        return transforms.resized_crop(
            frame, top, left, max(1, bottom - top), max(1, right - left), [height, width],
            InterpolationMode.BILINEAR, antialias=True,
        )  # fmt: skip


def _mostly_stated(crops: list[Crop]) -> list[Crop]:
    """Thin out, evenly, the crops for which the truth states nothing: the street has many more things than the line."""
    stated = [crop for crop in crops if crop.stated]
    others = [crop for crop in crops if not crop.stated]
    stride = max(1, len(others) * STATED_PER_OTHER // max(1, len(stated)))
    return stated + others[::stride]


def _crops(frames: Frames) -> list[Crop]:
    """Return all countable segments of a split."""
    found = []
    for index, (panoptic, segments) in enumerate(zip(frames.panoptic, frames.segments, strict=True)):
        for identifier, segment in segments.items():
            if segment["category"] not in frames.things or segment["is_crowd"]:
                continue
            value = segment["attributes"].get(ATTRIBUTE)
            box = mask_box(panoptic == identifier)
            whole = min(box[:2]) > 0 and box[2] < frames.size[0] and box[3] < frames.size[1]
            label = LABELS.index(value or WITHOUT_ATTRIBUTE)
            found.append(Crop(index, box, label, stated=value is not None, whole=whole))
    return found
