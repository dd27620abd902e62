"""Every bundled model through the real Triton and in this process: the contract, and equal answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.catalog.schema import load_profile
from models.datasets.scenes import SceneSequence
from models.export.contract import check_contract
from models.export.repository import build_repository
from services.runtime.engines.onnxruntime import OnnxRuntimeEngine
from services.runtime.engines.triton import TritonEngine
from services.runtime.resize import fit
from tests.support.triton import TritonServer

pytestmark = pytest.mark.integration

TASKS = tuple(load_profile("demo").tasks)
TIMEOUT_SECONDS = 60


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    build_repository("demo", folder)
    return folder


@pytest.fixture(scope="module")
def triton(repository: Path, start_triton: Callable[..., TritonServer]) -> TritonServer:
    return start_triton(repository, list(TASKS))


def test_the_demo_has_a_model_for_every_task() -> None:
    assert set(TASKS) == {"detection", "instance_segmentation", "semantic_segmentation", "classification"}


@pytest.mark.parametrize("task", TASKS)
async def test_both_engines_answer_alike(
    repository: Path, triton: TritonServer, engine_of: Callable[[TritonServer, str], TritonEngine], task: str
) -> None:
    check_contract(repository / task / "1" / "model.onnx", task)
    remote, local = engine_of(triton, task), OnnxRuntimeEngine(repository, task)
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


@pytest.mark.parametrize("task", TASKS)
async def test_pixels_go_in_and_small_tensors_come_out(repository: Path, task: str) -> None:
    engine = OnnxRuntimeEngine(repository, task)
    try:
        model = await engine.describe()
    finally:
        await engine.close()
    (image,) = model.inputs
    assert (image.name, image.datatype, image.shape[2]) == ("image", "UINT8", 3)
    assert all(output.datatype in {"UINT8", "INT32", "FP32"} for output in model.outputs)
    # Only a two-stage detector has no batch axis.
    assert (model.max_batch_size == 0) == (task == "instance_segmentation")
    assert len(model.weights_sha256) == 64
