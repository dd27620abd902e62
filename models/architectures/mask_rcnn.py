"""Mask R-CNN on a small feature pyramid.

He et al., *Mask R-CNN* (ICCV 2017), in torchvision's implementation with slim heads.
"""

from collections.abc import Sequence

from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor

from models.architectures.faster_rcnn import BOX_RESOLUTION
from models.architectures.feature_pyramid import decode_in_float32, detector_arguments, pyramid_backbone


def build_mask_rcnn(
    num_classes: int,
    input_size: Sequence[int],
    widths: Sequence[int] = (32, 64, 128, 160),
    pyramid_channels: int = 64,
    box_head_channels: int = 256,
    mask_head_channels: Sequence[int] = (64, 64),
) -> MaskRCNN:
    """Return torchvision's `MaskRCNN` with random weights; its masks are 28 x 28 per instance before pasting.

    Args:
        num_classes: classes without background; torchvision's label of class `i` is `i + 1`.
        input_size: (width, height) in pixels that pictures are resized to.
        widths: channels of the four ResNet stages.
        pyramid_channels: channels of every level of the feature pyramid.
        box_head_channels: width of the two fully connected layers of the box head.
        mask_head_channels: channels of the mask head's convolutions.
    """
    mask_channels = list(mask_head_channels)
    detector = MaskRCNN(
        pyramid_backbone(widths, pyramid_channels),
        box_head=TwoMLPHead(pyramid_channels * BOX_RESOLUTION**2, box_head_channels),
        box_predictor=FastRCNNPredictor(box_head_channels, num_classes + 1),
        mask_head=MaskRCNNHeads(pyramid_channels, mask_channels, dilation=1),
        mask_predictor=MaskRCNNPredictor(mask_channels[-1], mask_channels[-1], num_classes + 1),
        **detector_arguments(input_size),
    )
    return decode_in_float32(detector)
