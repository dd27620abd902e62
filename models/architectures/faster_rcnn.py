"""Faster R-CNN on a small feature pyramid.

Ren et al., *Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks* (NeurIPS 2015), in
torchvision's implementation with slim heads.
"""

from collections.abc import Sequence

from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead

from models.architectures.feature_pyramid import decode_in_float32, detector_arguments, pyramid_backbone

BOX_RESOLUTION = 7


def build_faster_rcnn(
    num_classes: int,
    input_size: Sequence[int],
    widths: Sequence[int] = (32, 64, 128, 160),
    pyramid_channels: int = 64,
    box_head_channels: int = 256,
) -> FasterRCNN:
    """Return torchvision's `FasterRCNN` with random weights.

    Args:
        num_classes: classes without background; torchvision's label of class `i` is `i + 1`.
        input_size: (width, height) in pixels that pictures are resized to.
        widths: channels of the four ResNet stages.
        pyramid_channels: channels of every level of the feature pyramid.
        box_head_channels: width of the two fully connected layers of the box head.
    """
    detector = FasterRCNN(
        pyramid_backbone(widths, pyramid_channels),
        box_head=TwoMLPHead(pyramid_channels * BOX_RESOLUTION**2, box_head_channels),
        box_predictor=FastRCNNPredictor(box_head_channels, num_classes + 1),
        **detector_arguments(input_size),
    )
    return decode_in_float32(detector)
