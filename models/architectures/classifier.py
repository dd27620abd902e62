"""A small classifier of crops.

Howard et al., *Searching for MobileNetV3* (ICCV 2019), in torchvision's implementation.
"""

from torch import nn
from torchvision.models import mobilenet_v3_small


def build_classifier(num_classes: int, dropout: float = 0.2) -> nn.Module:
    """Return MobileNetV3-Small with random weights: normalised float images [N,3,H,W] -> logits [N,num_classes]."""
    return mobilenet_v3_small(weights=None, num_classes=num_classes, dropout=dropout, reduced_tail=True)
