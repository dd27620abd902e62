"""The backbone that both two-stage detectors share: a narrow ResNet-18 with a feature pyramid."""

from collections.abc import Sequence
from typing import Any, TypeVar

from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FasterRCNN

from models.architectures.resnet import ResNet18

Detector = TypeVar("Detector", bound=FasterRCNN)

LEVELS = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
ANCHOR_SIZES = ((16,), (32,), (64,), (128,), (256,))
ASPECT_RATIOS = (0.5, 1.0, 2.0)


def pyramid_backbone(widths: Sequence[int], channels: int) -> BackboneWithFPN:
    """Return feature maps of `channels` at strides 4, 8, 16, 32 and 64.

    Lin et al., *Feature Pyramid Networks for Object Detection* (CVPR 2017).
    """
    return BackboneWithFPN(ResNet18(widths), LEVELS, list(widths), channels)


def detector_arguments(input_size: Sequence[int]) -> dict[str, Any]:
    """Return the arguments that torchvision's two-stage detectors share here.

    The detectors resize their input to `input_size` (width, height), in training not at all, since augmentation has
    chosen the size. The samplers are a quarter of torchvision's, which are meant for pictures of 800 x 1333 pixels
    with dozens of objects.
    """
    width, height = input_size
    return {
        "min_size": min(width, height),
        "max_size": max(width, height),
        "_skip_resize": True,
        "rpn_anchor_generator": AnchorGenerator(ANCHOR_SIZES, (ASPECT_RATIOS,) * len(ANCHOR_SIZES)),
        "rpn_pre_nms_top_n_train": 500,
        "rpn_pre_nms_top_n_test": 500,
        "rpn_post_nms_top_n_train": 300,
        "rpn_post_nms_top_n_test": 200,
        "rpn_batch_size_per_image": 128,
        "box_batch_size_per_image": 128,
        "box_detections_per_img": 100,
    }


def decode_in_float32(detector: Detector) -> Detector:
    """Let a two-stage detector decode its boxes in float32 where autocast computes the heads in bfloat16.

    torchvision decodes in the type of the predicted offsets. In bfloat16 that rounds a coordinate of 300 pixels by
    up to one pixel, and makes proposals without width, whose regression target is infinite.
    """
    for head in (detector.rpn.head, detector.roi_heads.box_predictor):
        head.register_forward_hook(_as_float32)
    return detector


def _as_float32(_module: nn.Module, _inputs: Any, outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float()
    return type(outputs)(_as_float32(_module, _inputs, output) for output in outputs)
