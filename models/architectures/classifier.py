"""A small classifier of crops on the narrow ResNet-18 that the demo's other models use too."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.architectures.resnet import ResNet18


class CropClassifier(nn.Module):
    """ResNet-18, global average pooling and one fully connected layer.

    Args:
        num_classes: classes C of the answer.
        widths: channels of the four ResNet stages.
        dropout: share of the pooled features that training leaves out.
    """

    def __init__(self, num_classes: int, widths: Sequence[int] = (32, 64, 128, 160), dropout: float = 0.2) -> None:
        super().__init__()
        self.backbone = ResNet18(widths)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(widths[3], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N,C] of normalised float images [N,3,H,W]."""
        *_, stride32 = self.backbone(images)
        return self.classifier(self.dropout(stride32.mean(dim=(2, 3))))
