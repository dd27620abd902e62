"""The baselines are right, and the cheapest parts run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from rich.console import Console

from loadtest.bench import codecs, fusion
from loadtest.bench.made_scene import make_scene
from loadtest.bench.run import Run
from loadtest.bench.worker import WORKERS, Worker, WorkerError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools

QUICK = Run(quick=True, port_base=0, console=Console(quiet=True))


@settings(max_examples=20, deadline=None)
@given(st.integers(40, 200), st.integers(40, 200), st.integers(0, 25), st.integers(0, 2**31))
def test_the_original_loops_give_the_scene_that_fuse_does(height: int, width: int, count: int, seed: int) -> None:
    scene = make_scene(height, width, count, seed)
    masks = scene.paste() if count else np.zeros((0, height, width), np.bool_)

    scene.require_equal(masks)


def test_instances_hide_each_other_and_stuff_remains() -> None:
    """What is measured is a scene in which every step of the method has something to do."""
    scene = make_scene(256, 512, 30)
    segments = scene.fuse().segments
    things = [segment for segment in segments if segment.is_thing]

    assert 0 < len(things) < len(scene.instances)
    assert len(segments) > len(things)
    assert sum(segment.area for segment in things) < scene.paste().sum()


@pytest.mark.parametrize("part", [codecs, fusion])
def test_a_cheap_part_measures_what_it_says(part: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(part, "SIZES", ((64, 96), (64, 96)))
    monkeypatch.setattr(fusion, "_TORCH_ENVIRONMENT", tmp_path)

    findings = part.measure(QUICK)  # type: ignore[attr-defined]

    assert len({each.id for each in findings.comparisons}) == len(findings.comparisons) >= 5
    assert all(0 < each.low <= each.high for each in findings.comparisons)


def test_a_worker_that_ends_says_why(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/bin/false")

    with Worker(tmp_path, "kirillov_torch", tmp_path / "log") as worker, pytest.raises(WorkerError, match="status 1"):
        worker.ask({})


def test_the_loop_in_pytorch_gives_the_same_map(tmp_path: Path) -> None:
    if not (fusion._TORCH_ENVIRONMENT / "bin" / "python").exists():
        pytest.skip("no PyTorch here")
    scene = make_scene(64, 96, 10)
    boxed: dict[str, ArrayLike] = {"cells": np.stack(scene.instances.masks), "boxes": scene.instances.boxes}
    with Worker(fusion._TORCH_ENVIRONMENT, "kirillov_torch", tmp_path / "log") as torch:
        # Each raises where the maps differ.
        alone = fusion._torch_arm(scene, torch, tmp_path, {"masks": scene.paste()}, of_equal=1)()
        pasting = fusion._torch_arm(scene, torch, tmp_path, boxed, of_equal=0.99)()
        (tmp_path / "flipped").mkdir()
        with pytest.raises(AssertionError, match="gives the map of fuse\\(\\) in"):
            fusion._torch_arm(scene, torch, tmp_path / "flipped", {"masks": scene.paste()[:, ::-1]}, of_equal=0.99)

    assert alone["cpu"] > 0
    assert pasting["cpu"] > 0
    assert (WORKERS / "kirillov_torch.py").is_file()
