"""ResNet-18 as a feature pyramid's bottom-up half, with the widths of its four stages as parameters.

He et al., *Deep Residual Learning for Image Recognition* (CVPR 2016). With the standard widths the parameter names and
shapes are torchvision's without the classifier; torchvision's own module fixes the width of basic blocks, so the
narrow variants that the demo models use need a module of our own.
"""

from collections.abc import Sequence

from torch import Tensor, nn

STANDARD_WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [N,in,H,W] -> [N,out,H/stride,W/stride]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(shortcut(x) + residual(x))."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(shortcut + residual)


class ResNet18(nn.Module):
    """Features of an image at strides 8, 16 and 32.

    Args:
        widths: channels of the four stages; the stem has as many as the first.
    """

    def __init__(self, widths: Sequence[int] = STANDARD_WIDTHS) -> None:
        super().__init__()
        if len(widths) != 4:
            raise ValueError(f"expected the widths of 4 stages, found {len(widths)}: {tuple(widths)}")
        self.widths = tuple(widths)
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(widths[0], widths[0], stride=1)
        self.layer2 = _stage(widths[0], widths[1], stride=2)
        self.layer3 = _stage(widths[1], widths[2], stride=2)
        self.layer4 = _stage(widths[2], widths[3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the feature maps [N,widths[1:],H/8..H/32,W/8..W/32] of float images [N,3,H,W]."""
        _, stride8, stride16, stride32 = self.pyramid(images)
        return stride8, stride16, stride32

    def pyramid(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the same feature maps with that of stride 4 before them."""
        stride4 = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        stride8 = self.layer2(stride4)
        stride16 = self.layer3(stride8)
        return stride4, stride8, stride16, self.layer4(stride16)


def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        BasicBlock(in_channels, out_channels, stride), BasicBlock(out_channels, out_channels, stride=1)
    )
