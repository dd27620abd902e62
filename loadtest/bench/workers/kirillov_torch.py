"""The loop of `loadtest.bench.kirillov` in PyTorch, as detectron2 has it, on one thread.

Runs in the environment that holds PyTorch, so it imports nothing of the project. Reads lines of JSON from standard
input, each with the path of an .npz file of `masks`, `scores` and `semantic` and the method's thresholds, and answers
each with a line: the CPU time of the second of two calls in ms, and the path of the panoptic map that it made.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


def combine(
    masks: torch.Tensor, scores: torch.Tensor, semantic: torch.Tensor, thresholds: dict[str, float]
) -> torch.Tensor:
    """As `loadtest.bench.kirillov.combine`, the panoptic map alone."""
    panoptic = torch.zeros_like(semantic, dtype=torch.int32)
    current = 0
    for index in torch.argsort(-scores, stable=True):
        if scores[index].item() < thresholds["score"]:
            break
        mask = masks[index]
        mask_area = mask.sum().item()
        if mask_area == 0:
            continue
        taken = (mask & (panoptic > 0)).sum().item()
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


def _load(path: Path) -> dict[str, Any]:
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in ("masks", "scores", "semantic")}


def main() -> None:
    """Answers requests until standard input ends."""
    torch.set_num_threads(1)
    loaded: dict[str, dict[str, Any]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        path = request["arrays"]
        if path not in loaded:
            loaded = {path: _load(Path(path))}
        combine(**loaded[path], thresholds=request["thresholds"])
        started = time.process_time_ns()
        panoptic = combine(**loaded[path], thresholds=request["thresholds"])
        milliseconds = (time.process_time_ns() - started) / 1e6
        answer = Path(path).with_suffix(".panoptic.npy")
        np.save(answer, panoptic.numpy())
        print(json.dumps({"cpu": milliseconds, "panoptic": str(answer)}), flush=True)


if __name__ == "__main__":
    main()
