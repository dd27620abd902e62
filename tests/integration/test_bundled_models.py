"""Every bundled model through the real Triton and in this process: the contract, and equal answers."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask

from models.catalog.schema import load_entry, load_profile
from models.datasets.scenes import SceneSequence
from models.export.contract import check_contract
from models.export.repository import build_repository
from services.runtime.engines.onnxruntime import OnnxRuntimeEngine
from services.runtime.engines.triton import TritonEngine
from services.runtime.resize import fit
from services.runtime.shared_memory import SHARED_MEMORY
from tests.support.damage import damage_weights
from tests.support.triton import TritonServer

pytestmark = pytest.mark.integration

BUNDLED = [
    *(("demo", task) for task in load_profile("demo").tasks),
    ("demo_apache", "detection"),
    ("camvid", "semantic_segmentation"),
]
"""Profiles and their tasks, so that each file of models/weights comes up once."""

OPENVINO = [("demo_openvino", task) for task in load_profile("demo_openvino").tasks]

LIKENESS = {"detection": 0.97, "instance_segmentation": 0.9, "semantic_segmentation": 0.99, "classification": 0.99}
"""How alike answers in bfloat16 and in float32 are at least; damaged weights are less."""

TIMEOUT_SECONDS = 60

Built = Callable[[str], Path]
Outputs = Mapping[str, NDArray[Any]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The model repository of a profile."""

    @cache
    def build(profile: str) -> Path:
        folder = tmp_path_factory.mktemp(profile)
        build_repository(profile, folder)
        if profile == "demo_openvino":
            add_damaged_model(folder)
        return folder

    return build


@pytest.fixture(scope="module")
def triton(repository: Built, start_triton: Callable[..., TritonServer]) -> Callable[[str], TritonServer]:
    """A Triton that serves a profile's bundled models."""
    served = [*BUNDLED, *OPENVINO, ("demo_openvino", "damaged")]
    return cache(lambda profile: start_triton(repository(profile), [task for name, task in served if name == profile]))


def test_each_file_of_weights_is_tried() -> None:
    entries = [load_entry(load_profile(profile).tasks[task]) for profile, task in BUNDLED]
    weights = Path(__file__).parents[2] / "models" / "weights"
    assert sorted(entry.source.file for entry in entries) == sorted(path.name for path in weights.glob("*.onnx"))


async def answers(remote: TritonEngine, local: OnnxRuntimeEngine) -> AsyncIterator[tuple[Outputs, Outputs]]:
    """What both say of a picture of each world, Triton first, once they describe the model alike; all it promises."""
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
            yield theirs, ours
    finally:
        await local.close()


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
    async for theirs, ours in answers(engine_of(triton(profile), task), OnnxRuntimeEngine(folder, task)):
        for name, values in ours.items():
            np.testing.assert_allclose(theirs[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("profile", "task"), OPENVINO)
async def test_openvino_sees_what_onnx_runtime_sees(
    repository: Built,
    triton: Callable[[str], TritonServer],
    engine_of: Callable[[TritonServer, str], TritonEngine],
    profile: str,
    task: str,
) -> None:
    """In bfloat16, so the answers are near and not equal; what it costs in accuracy `make evaluate` measures."""
    async for theirs, ours in answers(engine_of(triton(profile), task), OnnxRuntimeEngine(repository(profile), task)):
        assert {name: (values.shape, values.dtype) for name, values in theirs.items()} == {
            name: (values.shape, values.dtype) for name, values in ours.items()
        }
        assert likeness(task, theirs, ours) > LIKENESS[task]


@pytest.mark.parametrize(("profile", "task"), OPENVINO)
async def test_openvino_answers_alike_to_what_is_shared_and_what_is_sent(
    triton: Callable[[str], TritonServer],
    engine_of: Callable[[TritonServer, str], TritonEngine],
    profile: str,
    task: str,
) -> None:
    server = triton(profile)
    sending, sharing = engine_of(server, task), TritonEngine(server.url, task, shared_memory=SHARED_MEMORY)
    try:
        model = await sharing.describe()
        tensor, _ = fit(SceneSequence("street", 9001, 1, (640, 480))[0].image, model.resize, model.input_size)
        inputs = {"image": tensor[None] if model.max_batch_size else tensor}
        shared = await sharing.infer(inputs, TIMEOUT_SECONDS)
        sent = await sending.infer(inputs, TIMEOUT_SECONDS)
    finally:
        await sharing.close()
    for name, values in sent.outputs.items():
        np.testing.assert_array_equal(shared.outputs[name], values, err_msg=name)


def add_damaged_model(repository: Path) -> None:
    """Adds the model `damaged`, which is that of semantic segmentation with noise in its weights."""
    shutil.copytree(repository / "semantic_segmentation", repository / "damaged")
    config = repository / "damaged" / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "semantic_segmentation"', 'name: "damaged"', 1))
    damage_weights(repository / "damaged")


async def test_damaged_weights_do_not_pass_for_whole_ones(
    repository: Built,
    triton: Callable[[str], TritonServer],
    engine_of: Callable[[TritonServer, str], TritonEngine],
) -> None:
    server = triton("demo_openvino")
    picture = SceneSequence("street", 9001, 1, (640, 480))[0].image
    damaged, whole = [
        (await engine_of(server, name).infer({"image": picture[None]}, TIMEOUT_SECONDS)).outputs
        for name in ("damaged", "semantic_segmentation")
    ]
    assert likeness("semantic_segmentation", damaged, whole) < LIKENESS["semantic_segmentation"]


def likeness(task: str, theirs: Mapping[str, NDArray[Any]], ours: Mapping[str, NDArray[Any]]) -> float:
    """1 for equal answers: of pixels, of probabilities, or of the things that were found for certain."""
    if task == "semantic_segmentation":
        return float(np.mean(theirs["class_map"] == ours["class_map"]))
    if task == "classification":
        return 1.0 - float(np.abs(theirs["probabilities"] - ours["probabilities"]).max())
    certain = ours["detection_scores"].reshape(-1) > 0.6
    assert certain.sum() >= 2
    boxes = [boxes_of(outputs["detection_boxes"]) for outputs in (ours, theirs)]
    overlap = mask.iou(boxes[0][certain], boxes[1], [0] * len(boxes[1]))
    same_class = ours["detection_classes"].reshape(-1, 1)[certain] == theirs["detection_classes"].reshape(1, -1)
    is_found = theirs["detection_scores"].reshape(1, -1) > 0.4
    return float(np.mean((overlap * same_class * is_found).max(axis=1)))


def boxes_of(corners: NDArray[Any]) -> NDArray[np.float64]:
    """Boxes [N, 4] as pycocotools wants them, x, y, width, height, of those with two corners."""
    boxes = corners.reshape(-1, 4).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


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
