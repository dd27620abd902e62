"""BiSeNet: a shallow path that keeps detail beside a deep one that sees context.

Yu et al., *BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation* (ECCV 2018). With the default
widths, names and shapes of the parameters are those of the widely used PyTorch implementation
(github.com/CoinCheung/BiSeNet, `bisenetv1`), so that its public checkpoints load; see `load_public_checkpoint`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.architectures.resnet import STANDARD_WIDTHS, ResNet18

AUXILIARY_HEADS = ("conv_out16.", "conv_out32.")


class ConvBNReLU(nn.Module):
    """Convolution, batch normalisation and ReLU, padded to keep the size at stride 1."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,in,H,W] -> [N,out,H/stride,W/stride]."""
        return self.relu(self.bn(self.conv(x)))


class SpatialPath(nn.Module):
    """Three convolutions of stride 2 that keep spatial detail: image -> [N,2*channels,H/8,W/8]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBNReLU(3, channels, 7, stride=2)
        self.conv2 = ConvBNReLU(channels, channels, 3, stride=2)
        self.conv3 = ConvBNReLU(channels, channels, 3, stride=2)
        self.conv_out = ConvBNReLU(channels, 2 * channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the detail features of images [N,3,H,W]."""
        return self.conv_out(self.conv3(self.conv2(self.conv1(images))))


class AttentionRefinementModule(nn.Module):
    """Weighs each channel by what the whole picture holds: [N,in,h,w] -> [N,out,h,w]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(in_channels, out_channels, 3)
        self.conv_atten = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv_atten.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined features."""
        features = self.conv(x)
        return features * self.bn_atten(self.conv_atten(_global_average(features))).sigmoid()


class ContextPath(nn.Module):
    """ResNet-18 with a global average pooling tail and attention refinement at strides 16 and 32."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        self.resnet = ResNet18(widths)
        self.arm16 = AttentionRefinementModule(widths[2], channels)
        self.arm32 = AttentionRefinementModule(widths[3], channels)
        self.conv_head32 = ConvBNReLU(channels, channels, 3)
        self.conv_head16 = ConvBNReLU(channels, channels, 3)
        self.conv_avg = ConvBNReLU(widths[3], channels, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return context features [N,channels,H/8,W/8] and [N,channels,H/16,W/16] of images [N,3,H,W]."""
        stride8, stride16, stride32 = self.resnet(images)
        tail = self.conv_avg(_global_average(stride32))
        context16 = self.conv_head32(_enlarge(self.arm32(stride32) + tail, stride16))
        context8 = self.conv_head16(_enlarge(self.arm16(stride16) + context16, stride8))
        return context8, context16


class FeatureFusionModule(nn.Module):
    """Joins detail and context, which differ in level, by channel attention: two maps of stride 8 -> one."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convblk = ConvBNReLU(in_channels, out_channels, 1)
        self.conv = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, a=1)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """Return the fused features [N,out,H/8,W/8]."""
        features = self.convblk(torch.cat([detail, context], dim=1))
        return features + features * self.bn(self.conv(_global_average(features))).sigmoid()


class OutputHead(nn.Module):
    """Logits at the resolution of the features: [N,in,h,w] -> [N,num_classes,h,w]."""

    def __init__(self, in_channels: int, mid_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = ConvBNReLU(in_channels, mid_channels, 3)
        self.conv_out = nn.Conv2d(mid_channels, num_classes, 1)
        nn.init.kaiming_normal_(self.conv_out.weight, a=1)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """BiSeNet on ResNet-18.

    Args:
        num_classes: classes C of the answer.
        widths: channels of the four ResNet stages.
        spatial_channels: channels of the spatial path; both paths end with twice as many.
    """

    def __init__(self, num_classes: int, widths: Sequence[int] = STANDARD_WIDTHS, spatial_channels: int = 64) -> None:
        super().__init__()
        path_channels = 2 * spatial_channels
        self.cp = ContextPath(widths, path_channels)
        self.sp = SpatialPath(spatial_channels)
        self.ffm = FeatureFusionModule(2 * path_channels, 2 * path_channels)
        self.conv_out = OutputHead(2 * path_channels, 2 * path_channels, num_classes)
        self.conv_out16 = OutputHead(path_channels, spatial_channels, num_classes)
        self.conv_out32 = OutputHead(path_channels, spatial_channels, num_classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Classify every pixel of normalised float images [N,3,H,W].

        Returns:
            Logits [N,C,H,W]; in training mode a tuple of these and the logits of the two auxiliary heads at the
            resolution of their features, [N,C,H/8,W/8] and [N,C,H/16,W/16].
        """
        size = images.shape[-2:]
        context8, context16 = self.cp(images)
        logits = self.conv_out(self.ffm(self.sp(images), context8))
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        if not self.training:
            return logits
        return logits, self.conv_out16(context8), self.conv_out32(context16)


def load_public_checkpoint(path: str | Path) -> BiSeNet:
    """Load a `bisenetv1` checkpoint of github.com/CoinCheung/BiSeNet; the number of classes is read from it.

    The auxiliary heads serve training alone and may be missing; they then keep their random weights.

    Returns:
        The model in eval mode.

    Raises:
        ValueError: the file is no state_dict of this architecture; says which keys or shapes differ.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    classifier = state.get("conv_out.conv_out.weight")
    if classifier is None:
        raise ValueError(
            f"{path}: expected a BiSeNet checkpoint with the key 'conv_out.conv_out.weight', found {_excerpt(state)}"
        )
    model = BiSeNet(num_classes=classifier.shape[0])
    expected = model.state_dict()
    missing = [name for name in expected if name not in state and not name.startswith(AUXILIARY_HEADS)]
    unexpected = [name for name in state if name not in expected]
    misshapen = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems = {"missing keys": missing, "unexpected keys": unexpected, "wrong shapes": misshapen}
    if any(problems.values()):
        found = "; ".join(f"{what}: {_excerpt(names)}" for what, names in problems.items() if names)
        raise ValueError(f"{path} does not fit BiSeNet with {classifier.shape[0]} classes: {found}")
    model.load_state_dict(state, strict=False)
    return model.eval()


def _global_average(features: Tensor) -> Tensor:
    return features.mean(dim=(2, 3), keepdim=True)


def _enlarge(features: Tensor, like: Tensor) -> Tensor:
    # By size and not by factor, so that inputs need not be a multiple of 32.
    return functional.interpolate(features, size=like.shape[-2:], mode="nearest")


def _excerpt(names: Sequence[str] | dict[str, Tensor], limit: int = 6) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
