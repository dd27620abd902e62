"""Adapter for detectron2's Faster R-CNN and Mask R-CNN with a feature pyramid.

detectron2 is no dependency: it is imported only where an entry asks for it. As with torchvision's detectors, a service
resizes its pictures, the graph normalises and pads them, and there is no batch axis.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import build_model
from torch import Tensor, nn

from models.catalog.schema import Entry, TwoStageHead
from models.export.two_stage import export_two_stage, padded_rows


def export(entry: Entry, weights: Path) -> onnx.ModelProto:
    """Return the contract graph of a checkpoint of detectron2's model zoo.

    `entry.architecture` is the configuration's path there, such as `COCO-Detection/faster_rcnn_R_50_FPN_3x`.

    Raises:
        ValueError: the entry has no two-stage head, or another number of labels than the configuration.
    """
    if not isinstance(entry.head, TwoStageHead):
        raise ValueError(f"{entry.name}: expected a two_stage head, found {entry.head.kind}")
    config = model_zoo.get_config(f"{entry.architecture}.yaml")
    config.MODEL.DEVICE = "cpu"
    config.MODEL.ROI_HEADS.SCORE_THRESH_TEST = entry.head.score_threshold
    config.TEST.DETECTIONS_PER_IMAGE = entry.head.max_detections
    if len(entry.labels) != config.MODEL.ROI_HEADS.NUM_CLASSES:
        raise ValueError(
            f"{entry.name}: expected {config.MODEL.ROI_HEADS.NUM_CLASSES} labels, found {len(entry.labels)}"
        )
    model = build_model(config)
    DetectionCheckpointer(model).load(str(weights))
    return export_model(model, entry)


def export_model(model: nn.Module, entry: Entry) -> onnx.ModelProto:
    """Return the contract graph of a detectron2 `GeneralizedRCNN`."""
    with patch_builtin_len():  # otherwise the number of proposals of the traced picture becomes a constant
        return export_two_stage(_Detector(model.eval(), entry), entry)


class _Detector(nn.Module):
    def __init__(self, model: nn.Module, entry: Entry) -> None:
        super().__init__()
        self.model = model
        self.is_bgr = entry.pixels.channel_order == "bgr"
        self.rows = entry.head.max_detections

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the contract's outputs for a picture uint8 [H,W,3]; the model normalises it."""
        picture = image.permute(2, 0, 1).float()
        if self.is_bgr:
            picture = picture.flip(0)
        found = self.model.inference([{"image": picture}], do_postprocess=False)[0]
        masks = found.pred_masks if found.has("pred_masks") else None
        return padded_rows(found.pred_boxes.tensor, found.scores, found.pred_classes, masks, self.rows)
