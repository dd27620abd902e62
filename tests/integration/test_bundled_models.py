"""Every bundled model through the real Triton and in this process: the contract, and equal answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from models.catalog.schema import load_entry, load_profile
from models.datasets.scenes import SceneSequence
from models.export.contract import check_contract
from models.export.repository import build_repository
from services.runtime.engines.onnxruntime import OnnxRuntimeEngine
from services.runtime.engines.triton import TritonEngine
from services.runtime.resize import fit
from tests.support.triton import TritonServer

pytestmark = pytest.mark.integration

BUNDLED = [
    *(("demo", task) for task in load_profile("demo").tasks),
    ("demo_apache", "detection"),
    ("camvid", "semantic_segmentation"),
]
"""Profiles and their tasks, so that each file of models/weights comes up once."""

TIMEOUT_SECONDS = 60

Built = Callable[[str], Path]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The model repository of a profile."""

    @cache
    def build(profile: str) -> Path:
        folder = tmp_path_factory.mktemp(profile)
        build_repository(profile, folder)
        return folder

    return build


@pytest.fixture(scope="module")
def triton(repository: Built, start_triton: Callable[..., TritonServer]) -> Callable[[str], TritonServer]:
    """A Triton that serves a profile's bundled models."""
    return cache(lambda profile: start_triton(repository(profile), [task for name, task in BUNDLED if name == profile]))


def test_each_file_of_weights_is_tried() -> None:
    entries = [load_entry(load_profile(profile).tasks[task]) for profile, task in BUNDLED]
    weights = Path(__file__).parents[2] / "models" / "weights"
    assert sorted(entry.source.file for entry in entries) == sorted(path.name for path in weights.glob("*.onnx"))


@pytest.mark.parametrize(("profile", "task"), BUNDLED)
async def test_both_engines_answer_alike(
    repository: Built,
    triton: Callable[[str], TritonServer],
    engine_of: Callable[[TritonServer, str], TritonEngine],
    profile: str,
    task: str,
) -> None:
    folder = repository(profile)
    check_contract(folder / task / "1" / "model.onnx", task)
    remote, local = engine_of(triton(profile), task), OnnxRuntimeEngine(folder, task)
    try:
        model = await remote.describe()
        assert model == await local.describe()
        for world in ("street", "line"):
            picture = SceneSequence(world, 9001, 1, (640, 480))[0].image
            tensor, _ = fit(picture, model.resize, model.input_size)
            inputs = {model.inputs[0].name: tensor[None] if model.max_batch_size else tensor}
            theirs = (await remote.infer(inputs, TIMEOUT_SECONDS)).outputs
            ours = (await local.infer(inputs, TIMEOUT_SECONDS)).outputs
            assert set(theirs) == set(ours) == {output.name for output in model.outputs}
            for name, values in ours.items():
                np.testing.assert_allclose(theirs[name], values, rtol=1e-4, atol=1e-4, err_msg=name)
    finally:
        await local.close()


@pytest.mark.parametrize(("profile", "task"), BUNDLED)
async def test_pixels_go_in_and_small_tensors_come_out(repository: Built, profile: str, task: str) -> None:
    engine = OnnxRuntimeEngine(repository(profile), task)
    try:
        model = await engine.describe()
    finally:
        await engine.close()
    (image,) = model.inputs
    assert (image.name, image.datatype, image.shape[2]) == ("image", "UINT8", 3)
    assert all(output.datatype in {"UINT8", "INT32", "FP32"} for output in model.outputs)
    # Only a two-stage detector has no batch axis.
    entry = load_entry(load_profile(profile).tasks[task])
    assert (model.max_batch_size == 0) == (entry.head.kind == "two_stage")
    assert len(model.weights_sha256) == 64
