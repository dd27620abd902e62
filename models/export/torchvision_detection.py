"""Adapter for torchvision's two-stage detectors: Faster R-CNN and Mask R-CNN.

A service resizes its pictures, so torchvision's own resizing is left out; its normalisation and its padding to a
multiple of 32 stay in the graph. With resize rule `shortest_edge` the graph takes pictures of any size, as torchvision
does; with `letterbox` its size is fixed, which engines can optimise better. The graph has no batch axis: the number of
proposals differs from picture to picture.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torchvision.models import detection, get_model_weights
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList

from models.catalog.schema import Entry, TwoStageHead
from models.export.two_stage import export_two_stage, padded_rows

ANY_LABEL = "N/A"
"""What torchvision calls the ids that COCO left unused."""


def export(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph of one of torchvision's published checkpoints.

    Raises:
        ValueError: no such architecture, or its labels are not those of the entry.
    """
    builders = {
        "fasterrcnn_resnet50_fpn": detection.fasterrcnn_resnet50_fpn,
        "maskrcnn_resnet50_fpn": detection.maskrcnn_resnet50_fpn,
    }
    if entry.architecture not in builders:
        raise ValueError(
            f"{entry.name}: expected an architecture of {', '.join(builders)}, found {entry.architecture!r}"
        )
    model = builders[entry.architecture](weights=None, weights_backbone=None)
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    categories = get_model_weights(entry.architecture).DEFAULT.meta["categories"]
    return export_model(model, entry, class_of_label(categories, entry))


def class_of_label(categories: list[str], entry: Entry) -> Tensor:
    """Return int64 [labels]: which of the entry's classes each label of torchvision is; label 0 is background.

    Raises:
        ValueError: the labels of the entry, in their order, are not torchvision's without unused ones.
    """
    used = [index for index, name in enumerate(categories) if index and name != ANY_LABEL]
    if tuple(categories[index] for index in used) != entry.labels:
        raise ValueError(
            f"{entry.name}: expected the {len(used)} labels of torchvision, found {len(entry.labels)} others"
        )
    classes = torch.zeros(len(categories), dtype=torch.int64)
    classes[used] = torch.arange(len(used))
    return classes


def export_model(model: GeneralizedRCNN, entry: Entry, classes: Tensor) -> onnx.ModelProto:
    """Return the contract graph of a Faster or Mask R-CNN of torchvision's classes.

    Args:
        classes: int64 [labels], class of each of the model's labels.

    Raises:
        ValueError: the entry has no two-stage head.
    """
    if not isinstance(entry.head, TwoStageHead):
        raise ValueError(f"{entry.name}: expected a two_stage head, found {entry.head.kind}")
    model.eval()
    model.roi_heads.score_thresh = entry.head.score_threshold
    model.roi_heads.detections_per_img = entry.head.max_detections
    return export_two_stage(_Detector(model, entry, classes), entry)


class _Detector(nn.Module):
    def __init__(self, model: GeneralizedRCNN, entry: Entry, classes: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(entry.pixels.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(entry.pixels.std)[:, None, None])
        self.scale = entry.pixels.scale
        self.rows = entry.head.max_detections
        self.register_buffer("classes", classes)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the contract's outputs for a picture uint8 [H,W,3]."""
        picture = (image.permute(2, 0, 1).float() * self.scale - self.mean) / self.std
        picture = self.model.transform.normalize(picture)
        images = ImageList(self.model.transform.batch_images([picture]), [picture.shape[-2:]])
        features = self.model.backbone(images.tensors)
        proposals, _ = self.model.rpn(images, features)
        found = self.model.roi_heads(features, proposals, images.image_sizes)[0][0]
        return padded_rows(
            found["boxes"], found["scores"], self.classes[found["labels"]], found.get("masks"), self.rows
        )
