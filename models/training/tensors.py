"""From stored pixels to what a network eats."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's parameters are."""
    return next(model.parameters()).device


def pixels(images: NDArray[np.uint8], model: nn.Module) -> Tensor:
    """Return frames uint8 [N,H,W,3] as uint8 [N,3,H,W] on the model's device."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device_of(model))


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return uint8 RGB images [N,3,H,W] as (x / 255 - mean) / std, float32, in the layout convolutions are fast in."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device)[:, None, None]
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)[:, None, None]
    return (images.float() * scale + shift).contiguous(memory_format=torch.channels_last)
