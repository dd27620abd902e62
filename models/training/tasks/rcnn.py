"""Training torchvision's two-stage detectors, with their own losses."""

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle
from torch import Tensor, nn

from models.training.augmentation import Augment
from models.training.config import RunConfig
from models.training.frame_cache import Frames
from models.training.instances import CocoValidation, Detections, instances_in
from models.training.tasks.task import Batch, Task
from models.training.tensors import device_of

VALIDATION_BATCH = 8
MASK_THRESHOLD = 0.5


class RegionDetection(Task):
    """Boxes of the countable categories, by Faster R-CNN. Normalisation and resizing are part of the model."""

    headline = "box_AP"
    with_masks: ClassVar[bool] = False

    def __init__(self, config: RunConfig, train: Frames, validation: Frames) -> None:
        super().__init__(config, train, validation)
        self.labels = tuple(train.labels[train_id] for train_id in train.things)
        self.augment = Augment(config.augmentation, train.size, map_fill=0)
        self.truth = CocoValidation(validation)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return lists of images uint8 [3,h,w] and of torchvision's targets."""
        images, targets = [], []
        for index in indices:
            image, panoptic = self.augment(self.train.images[index], self.train.panoptic[index])
            things = instances_in(panoptic.numpy(), self.train.segments[index], self.train.things)
            target = {"boxes": torch.from_numpy(things.boxes), "labels": torch.from_numpy(things.classes + 1)}
            if self.with_masks:
                target["masks"] = torch.from_numpy(things.masks.astype(np.uint8))
            images.append(image)
            targets.append(target)
        return images, targets

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the losses of proposals, boxes, classes and masks."""
        images, targets = batch
        return sum(model([image.float() / 255 for image in images], targets).values())

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the average precision of boxes and, where the model has them, of masks."""
        device = device_of(model)
        detections = []
        for start in range(0, len(self.validation), VALIDATION_BATCH):
            frames = self.validation.images[start : start + VALIDATION_BATCH]
            images = [torch.from_numpy(frame.copy()).permute(2, 0, 1).to(device).float() / 255 for frame in frames]
            detections += [self._detections(output) for output in model(images)]
        metrics = self.truth.average_precision(detections, masks=False)
        return metrics | (self.truth.average_precision(detections, masks=True) if self.with_masks else {})

    def _detections(self, output: dict[str, Tensor]) -> Detections:
        return Detections(
            boxes=output["boxes"].float().cpu().numpy(),
            scores=output["scores"].float().cpu().numpy(),
            classes=output["labels"].cpu().numpy() - 1,
            masks=_run_lengths(output["masks"]) if self.with_masks else None,
        )


class RegionSegmentation(RegionDetection):
    """Boxes and masks, by Mask R-CNN."""

    headline = "mask_AP"
    with_masks = True


def _run_lengths(masks: Tensor) -> list[dict[str, Any]]:
    """Return masks of probabilities [K,1,H,W] as COCO run lengths."""
    pixels = (masks[:, 0] > MASK_THRESHOLD).cpu().numpy().astype(np.uint8)
    return rle.encode(np.asfortranarray(pixels.transpose(1, 2, 0)))
