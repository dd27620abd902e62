"""Training BiSeNet to name every pixel."""

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.datasets.sample import IGNORE_LABEL
from models.training.augmentation import Augment
from models.training.config import RunConfig
from models.training.frame_cache import Frames
from models.training.tasks.task import IMAGENET_MEAN, IMAGENET_STD, Batch, Task
from models.training.tensors import normalise, pixels

# Paszke et al., *ENet* (2016), weighs class c by 1 / ln(1.02 + share of c). The larger offset keeps the rarest class
# of CamVid at four times the weight of the most frequent one instead of thirteen.
CLASS_WEIGHT_OFFSET = 1.1
VALIDATION_BATCH = 8


class SemanticSegmentation(Task):
    """Class-balanced cross entropy on the output and, with equal weight as in the paper, on both auxiliary heads."""

    headline = "mIoU"
    mean: ClassVar = IMAGENET_MEAN
    std: ClassVar = IMAGENET_STD

    def __init__(self, config: RunConfig, train: Frames, validation: Frames) -> None:
        super().__init__(config, train, validation)
        self.augment = Augment(config.augmentation, train.size, map_fill=IGNORE_LABEL)
        self.class_weights = _class_weights(train.semantic, len(train.labels))

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return images uint8 [B,3,h,w] and train ids int64 [B,h,w]."""
        examples = [self.augment(self.train.images[index], self.train.semantic[index]) for index in indices]
        return torch.stack([image for image, _ in examples]), torch.stack([labels for _, labels in examples]).long()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the three heads' losses; each is compared at the resolution it has."""
        images, labels = batch
        weights = self.class_weights.to(images.device)
        losses = [
            functional.cross_entropy(
                logits.float(), _labels_at(labels, logits.shape[-2:]), weights, ignore_index=IGNORE_LABEL
            )
            for logits in model(normalise(images, self.mean, self.std))
        ]
        return torch.stack(losses).sum()

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the mean intersection over union over the classes present, each class's own, and pixel accuracy."""
        num_classes = len(self.labels)
        confusion = np.zeros((num_classes, num_classes), np.int64)
        for start in range(0, len(self.validation), VALIDATION_BATCH):
            frames = slice(start, start + VALIDATION_BATCH)
            images = pixels(self.validation.images[frames], model)
            predicted = model(normalise(images, self.mean, self.std)).argmax(dim=1).cpu().numpy()
            confusion += confusion_matrix(self.validation.semantic[frames], predicted, num_classes)
        return self._metrics(confusion)

    def _metrics(self, confusion: NDArray[np.int64]) -> dict[str, float]:
        hits = np.diag(confusion)
        union = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
        present = confusion.sum(axis=1) > 0
        iou = hits / np.maximum(union, 1)
        metrics = {"mIoU": float(iou[present].mean()), "pixel_accuracy": float(hits.sum() / confusion.sum())}
        return metrics | {f"IoU/{self.labels[index]}": float(iou[index]) for index in np.flatnonzero(present)}


def confusion_matrix(truth: NDArray[np.integer], predicted: NDArray[np.integer], num_classes: int) -> NDArray[np.int64]:
    """Count pixels by (true class, predicted class): int64 [num_classes,num_classes]; ignored ones are left out."""
    counted = truth != IGNORE_LABEL
    pairs = truth[counted].astype(np.int64) * num_classes + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _labels_at(labels: Tensor, size: torch.Size) -> Tensor:
    """Return train ids [B,H,W] at another size, by the nearest pixel."""
    return functional.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def _class_weights(semantic: NDArray[np.uint8], num_classes: int) -> Tensor:
    counts = np.sum([np.bincount(frame.ravel(), minlength=256)[:num_classes] for frame in semantic], axis=0)
    return torch.from_numpy(1 / np.log(CLASS_WEIGHT_OFFSET + counts / counts.sum())).float()
