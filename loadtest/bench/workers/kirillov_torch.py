"""The loop of `loadtest.bench.kirillov` in PyTorch, as detectron2 has it, on one thread.

Runs in the environment that holds PyTorch, so it imports nothing of the project. Reads lines of JSON from standard
input, each with the path of an .npz file and the method's thresholds, and answers each with a line: the CPU time of the
second of two calls in ms, and the path of the panoptic map that it made. The file holds `masks` bool [N, H, W],
`scores` and `semantic`; or, where masks are to be pasted as detectron2 does, `cells` uint8 [N, h, w] and their `boxes`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch


def combine(
    masks: torch.Tensor, scores: torch.Tensor, semantic: torch.Tensor, thresholds: dict[str, float]
) -> torch.Tensor:
    """As `loadtest.bench.kirillov.combine`, the panoptic map alone. semantic: int64, as `argmax` gives it there."""
    panoptic = torch.zeros_like(semantic, dtype=torch.int32)
    current = 0
    for index in torch.argsort(-scores, stable=True):
        if scores[index].item() < thresholds["score"]:
            break
        mask = masks[index]
        mask_area = mask.sum().item()
        if mask_area == 0:
            continue
        taken = ((mask > 0) & (panoptic > 0)).sum().item()
        if taken / mask_area > thresholds["overlap"]:
            continue
        if taken > 0:
            mask = mask & (panoptic == 0)
        current += 1
        panoptic[mask] = current
    for label in torch.unique(semantic).tolist():
        if label == 0:
            continue
        mask = (semantic == label) & (panoptic == 0)
        if mask.sum().item() < thresholds["stuff_pixels"]:
            continue
        current += 1
        panoptic[mask] = current
    return panoptic


def paste(cells: torch.Tensor, boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Masks of boxes on the whole map, bool [N, H, W], as detectron2's `paste_masks_in_image` makes them on a CPU."""
    masks = torch.zeros(len(cells), height, width, dtype=torch.bool)
    for index, (left, top, right, bottom) in enumerate(boxes.tolist()):
        x = slice(max(math.floor(left) - 1, 0), min(math.ceil(right) + 1, width))
        y = slice(max(math.floor(top) - 1, 0), min(math.ceil(bottom) + 1, height))
        columns = (torch.arange(x.start, x.stop) + 0.5 - left) / (right - left) * 2 - 1
        rows = (torch.arange(y.start, y.stop) + 0.5 - top) / (bottom - top) * 2 - 1
        grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=2)[None]
        sampled = torch.nn.functional.grid_sample(cells[index, None, None], grid, align_corners=False)
        masks[index, y, x] = sampled[0, 0] >= 0.5
    return masks


def perceive(scene: dict[str, torch.Tensor], thresholds: dict[str, float]) -> torch.Tensor:
    """The panoptic map of what a file holds."""
    scores, semantic = scene["scores"], scene["semantic"]
    masks = scene["masks"] if "masks" in scene else paste(scene["cells"], scene["boxes"], *semantic.shape)
    return combine(masks, scores, semantic, thresholds)


def _load(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path) as arrays:
        scene = {name: torch.from_numpy(array) for name, array in arrays.items()}
    scene["semantic"] = scene["semantic"].long()
    if "cells" in scene:
        scene["cells"] = scene["cells"].float() / 255
    return scene


def main() -> None:
    """Answers requests until standard input ends."""
    torch.set_num_threads(1)
    loaded: dict[str, dict[str, torch.Tensor]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        path = request["arrays"]
        if path not in loaded:
            loaded[path] = _load(Path(path))
        perceive(loaded[path], request["thresholds"])
        started = time.process_time_ns()
        panoptic = perceive(loaded[path], request["thresholds"])
        milliseconds = (time.process_time_ns() - started) / 1e6
        answer = Path(path).with_suffix(".panoptic.npy")
        np.save(answer, panoptic.numpy())
        print(json.dumps({"cpu": milliseconds, "panoptic": str(answer)}), flush=True)


if __name__ == "__main__":
    main()
