"""`fuse()` against the loop of the original method."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from loadtest.bench.made_scene import MadeScene, make_scene
from loadtest.bench.pairs import Measured, cpu_time
from loadtest.bench.result import Comparison, Findings, bars
from loadtest.bench.run import Run
from loadtest.bench.worker import Worker
from services.gateway.canvas import FusionOptions
from services.gateway.fusion import fuse
from services.runtime.memory import keep_large_arrays
from services.stack.layout import PROJECT

SIZES = ((512, 1024), (1024, 2048))
INSTANCES = (5, 30, 100)
_TORCH_ENVIRONMENT = PROJECT / ".venv-models"
_LOOPS = {
    "torch": "detectron2's loop, PyTorch",
    "torch_paste": "the same with detectron2's pasting",
    "panopticapi": "panopticapi's loop",
    "numpy": "detectron2's loop, NumPy",
    "paste": "the same with our pasting",
}
_AS_SERVED = "`fuse()` as served"

ABOUT = """\
`fuse()` gets what the services answer: a mask of 28 x 28 cells for each box, and the class map with its confidence. It
pastes the masks, claims pixels, and says category, score, box and area of every segment. The **loops** are Kirillov's
as detectron2 has it (once in PyTorch, as there, once in NumPy) and as panopticapi has it. They get their masks pasted
and, panopticapi's, run-length encoded already, and find areas only; **with pasting** adds what `fuse()` does, too: in
PyTorch as detectron2 does it, in NumPy with our own function. All follow the paper's rule, and their maps are equal,
pixel by pixel (with detectron2's pasting, which rounds otherwise at the edges of masks, in 99.9 % of the pixels at
least). **As served**, the class map has its say in the masks, too. CPU time on one thread, the same made scene for all,
in turn. This process keeps the memory of large arrays as a service does; before each run that counts comes one of the
same arm that does not, so what is compared is both with what their last run left in the caches."""


def measure(run: Run) -> Findings:
    """Measures all methods on scenes of every size and count."""
    keep_large_arrays()
    sizes = run.pick(SIZES, SIZES[1:])
    counts = run.pick(INSTANCES, INSTANCES[:2])
    has_torch = (_TORCH_ENVIRONMENT / "bin" / "python").exists()
    comparisons: list[Comparison] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        torch = (
            stack.enter_context(Worker(_TORCH_ENVIRONMENT, "kirillov_torch", folder / "torch.log"))
            if has_torch
            else None
        )
        for height, width in sizes:
            for count in counts:
                comparisons += _compare(run, make_scene(height, width, count), torch, folder)
    loops = [each for each in comparisons if each.first != _AS_SERVED]
    missing = f"The loop in PyTorch was not measured: there is no PyTorch in {_TORCH_ENVIRONMENT.name}."
    return Findings(
        about=ABOUT,
        comparisons=tuple(comparisons),
        plots=(
            bars(
                "fusion",
                "How many times as long as fuse() the loops take",
                loops,
                [f"{each.case}: {each.first}" for each in loops],
                logarithmic=True,
            ),
        ),
        notes=() if has_torch else (missing,),
    )


def _compare(run: Run, scene: MadeScene, torch: Worker | None, folder: Path) -> list[Comparison]:
    masks = scene.paste()
    runs = scene.run_lengths(masks)
    scene.require_equal(masks)
    arms: dict[str, Callable[[], Measured]] = {
        "`fuse()`": lambda: cpu_time(scene.fuse),
        _AS_SERVED: lambda: cpu_time(lambda: _fuse_as_served(scene)),
        _LOOPS["panopticapi"]: lambda: cpu_time(lambda: scene.loop_of_runs(*runs)),
        _LOOPS["numpy"]: lambda: cpu_time(lambda: scene.loop(masks)),
        _LOOPS["paste"]: lambda: cpu_time(lambda: scene.loop(scene.paste())),
    }
    if torch is not None:
        arms[_LOOPS["torch"]] = _torch_arm(scene, torch, folder, {"masks": masks}, of_equal=1)
        # Its pasting rounds otherwise, so that single pixels at the edges of masks differ.
        boxed: dict[str, ArrayLike] = {"cells": np.stack(scene.instances.masks), "boxes": scene.instances.boxes}
        arms[_LOOPS["torch_paste"]] = _torch_arm(scene, torch, folder, boxed, of_equal=0.999)
    height, width = scene.size
    count = len(scene.instances)
    case = f"{height} x {width}, {count} instances"
    samples = run.interleave(f"fusion, {case}", arms, run.pick(5, 3))
    return [
        Comparison.of(
            samples,
            first,
            "`fuse()`",
            "cpu",
            id=f"{id}.{height}x{width}.{count}",
            case=case,
            quantity="CPU time",
            unit="ms",
        )
        for id, first in {**_LOOPS, "served": _AS_SERVED}.items()
        if first in samples
    ]


def _fuse_as_served(scene: MadeScene) -> object:
    return fuse(scene.instances, scene.class_map, scene.taxonomy, scene.size, FusionOptions())


def _torch_arm(
    scene: MadeScene, torch: Worker, folder: Path, masks: Mapping[str, ArrayLike], *, of_equal: float
) -> Callable[[], Measured]:
    """The loop in PyTorch. of_equal: the least share of the pixels in which its map must equal that of the others."""
    arrays = folder / f"{scene.size[0]}_{len(scene.instances)}_{'_'.join(masks)}.npz"
    held: dict[str, Any] = {"scores": scene.instances.scores, "semantic": scene.semantic, **masks}
    np.savez(arrays, **held)
    request = {"arrays": str(arrays), "thresholds": asdict(scene.thresholds)}
    equal = float(np.mean(np.load(torch.ask(request)["panoptic"]) == scene.fuse().ids))
    if equal < of_equal:
        raise AssertionError(f"the loop in PyTorch gives the map of fuse() in {equal:.4%} of the pixels")
    return lambda: {"cpu": torch.ask(request)["cpu"]}
