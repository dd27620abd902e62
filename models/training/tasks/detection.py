"""Training a YOLO detector with ultralytics' loss and task-aligned assigner, in the loop of all other models."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.training.augmentation import Augment
from models.training.config import RunConfig
from models.training.frame_cache import Frames
from models.training.instances import CocoValidation, Detections, instances_in
from models.training.tasks.task import Batch, Task
from models.training.tensors import normalise, pixels

VALIDATION_BATCH = 16
VALIDATION_SCORE = 0.01
VALIDATION_NMS_IOU = 0.65


class Detection(Task):
    """Boxes of the countable categories."""

    headline = "box_AP"

    def __init__(self, config: RunConfig, train: Frames, validation: Frames) -> None:
        super().__init__(config, train, validation)
        self.labels = tuple(train.labels[train_id] for train_id in train.things)
        self.augment = Augment(config.augmentation, train.size, map_fill=0)
        self.truth = CocoValidation(validation)

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        """Return images uint8 [B,3,h,w] and, for all boxes of the batch: image index, class, relative xywh."""
        images, rows = [], []
        for position, index in enumerate(indices):
            image, panoptic = self.augment(self.train.images[index], self.train.panoptic[index])
            things = instances_in(panoptic.numpy(), self.train.segments[index], self.train.things)
            height, width = panoptic.shape
            low, high = things.boxes[:, :2], things.boxes[:, 2:]
            relative = np.concatenate([(low + high) / 2, high - low], axis=1) / [width, height, width, height]
            images.append(image)
            rows.append(np.column_stack([np.full(len(relative), position), things.classes, relative]))
        targets = torch.from_numpy(np.concatenate(rows)).float()
        return torch.stack(images), {"batch_idx": targets[:, 0], "cls": targets[:, 1], "bboxes": targets[:, 2:]}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the box, class and distribution focal losses, per image."""
        images, targets = batch
        outputs = model(normalise(images, self.mean, self.std))
        outputs = {
            name: [v.float() for v in value] if name == "feats" else value.float() for name, value in outputs.items()
        }
        with torch.autocast(images.device.type, enabled=False):  # the assigner ranks by scores too close for bfloat16
            per_batch, _ = model.loss(targets, outputs)
        return per_batch.sum() / len(images)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the average precision of boxes after non-maximum suppression per class."""
        from ultralytics.utils.nms import non_max_suppression

        detections = []
        for start in range(0, len(self.validation), VALIDATION_BATCH):
            images = pixels(self.validation.images[start : start + VALIDATION_BATCH], model)
            predictions, *_ = model(normalise(images, self.mean, self.std))
            kept = non_max_suppression(
                predictions.float(), VALIDATION_SCORE, VALIDATION_NMS_IOU, max_det=100, max_time_img=10
            )
            for rows in kept:
                found = rows.cpu().numpy()
                detections.append(Detections(found[:, :4], found[:, 4], found[:, 5].astype(np.int64)))
        return self.truth.average_precision(detections, masks=False)
