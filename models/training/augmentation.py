"""Random changes of a picture together with its map of labels, by torchvision's transforms."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from models.training.config import Augmentation


class Augment:
    """Applies an `Augmentation` to (image uint8 [H,W,3] RGB, map [H,W]) with torch's global random generator.

    Args:
        augmentation: what to do.
        size: (width, height) of the pictures that come in.
        map_fill: value of the map where a crop leaves the picture.
    """

    def __init__(self, augmentation: Augmentation, size: tuple[int, int], map_fill: int) -> None:
        steps: list[v2.Transform] = [v2.RandomHorizontalFlip(augmentation.horizontal_flip)]
        if augmentation.scale != (1.0, 1.0):
            steps.append(v2.ScaleJitter((size[1], size[0]), augmentation.scale, antialias=True))
        width, height = augmentation.crop or size
        if augmentation.scale != (1.0, 1.0) or (width, height) != size:
            fill = {tv_tensors.Image: 114, tv_tensors.Mask: map_fill}
            steps.append(v2.RandomCrop((height, width), pad_if_needed=True, fill=fill))
        if augmentation.colour_jitter:
            strength = augmentation.colour_jitter
            steps.append(v2.ColorJitter(strength, strength, strength, hue=strength / 10))
        self.transform = v2.Compose(steps)

    def __call__(self, image: NDArray[np.uint8], label_map: NDArray[np.integer]) -> tuple[Tensor, Tensor]:
        """Return the changed image uint8 [3,h,w] and map int32 [h,w]; h and w are those of the crop."""
        changed = self.transform(
            tv_tensors.Image(torch.from_numpy(image.transpose(2, 0, 1).copy())),
            tv_tensors.Mask(torch.from_numpy(label_map.astype(np.int32))[None]),
        )
        return changed[0].as_subclass(Tensor), changed[1].as_subclass(Tensor)[0]
