"""Real models on real pictures, whole and with damaged weights, through the command itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from models.catalog.schema import load_entry
from models.datasets.camvid import CamVidDataset
from models.datasets.sample import Dataset, Sample
from models.evaluation.command import evaluate
from models.evaluation.plan import load_plan
from models.evaluation.report import write_report
from models.evaluation.run import run_plan
from models.export.repository import write_model
from models.export.weights import resolve_weights
from tests.support.damage import damage_weights
from tests.support.stack import Stack

# pycocotools' decoder does not speak all of numpy 2 yet.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

app = typer.Typer()
app.command()(evaluate)


@pytest.fixture(scope="module")
def repositories(perception_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories of one model each, named after its catalogue entry; those called `damaged_…` have noisy weights."""
    folder = tmp_path_factory.mktemp("repositories")
    for name in ("yolov8n_seg_coco", "espnet_camvid"):
        entry = load_entry(name)
        write_model(entry, resolve_weights(entry.source), folder / name / entry.task)
        shutil.copytree(folder / name, folder / f"damaged_{name}")
        damage_weights(folder / f"damaged_{name}" / entry.task)
    return folder


def running(repository: Path, taxonomy: str, folder: Path) -> Stack:
    return Stack(repository, taxonomy, "onnxruntime", folder)


def evaluated(output: Path, *addresses: str) -> tuple[int, str, dict[str, dict[str, float]]]:
    """Exit status and output of the command for profile coco, and the metrics by subject."""
    result = CliRunner().invoke(app, ["coco", *addresses, "--output", str(output)])
    written = output / "coco" / "metrics.json"
    assert written.is_file(), result.output
    evaluations = json.loads(written.read_text())["evaluations"]
    return result.exit_code, result.output, {each["subject"]: each["metrics"] for each in evaluations}


def test_a_model_on_coco_is_as_good_as_is_known_of_it(repositories: Path, tmp_path: Path) -> None:
    with running(repositories / "yolov8n_seg_coco", "coco", tmp_path / "run") as stack:
        task = f"--task=instance_segmentation=127.0.0.1:{stack.ports.task('instance_segmentation')}"
        status, output, metrics = evaluated(tmp_path / "out", "--gateway", stack.address, task)
    assert status == 0, output
    assert metrics["instance_segmentation"]["mask_mAP"] == pytest.approx(0.376, abs=0.01)
    assert metrics["instance_segmentation"]["box_mAP"] == pytest.approx(0.452, abs=0.01)
    assert metrics["system"]["PQ"] == metrics["system"]["PQ_things"] == pytest.approx(0.432, abs=0.01)
    # The system has no semantic model, so nothing is said about stuff.
    assert "PQ_stuff" not in metrics["system"]


def test_damaged_weights_make_the_command_fail(repositories: Path, tmp_path: Path) -> None:
    with running(repositories / "damaged_yolov8n_seg_coco", "coco", tmp_path / "run") as stack:
        status, output, metrics = evaluated(tmp_path / "out", "--gateway", stack.address)
    assert status == 1, output
    assert "worse than expected: system on coco_val2017_60_panoptic: PQ " in output
    assert metrics["system"]["PQ"] < 0.3


class FirstFrames:
    """The first frames of a data set."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self._dataset, self._count = dataset, count
        self.name, self.categories = dataset.name, dataset.categories

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[index]


def test_two_models_on_the_same_frames(repositories: Path, perception_data: Path, tmp_path: Path) -> None:
    frames = FirstFrames(CamVidDataset(perception_data, "val_0016E5_15hz"), 8)
    with (
        running(repositories / "espnet_camvid", "street", tmp_path / "whole") as whole,
        running(repositories / "damaged_espnet_camvid", "street", tmp_path / "damaged") as damaged,
    ):
        addresses = [f"127.0.0.1:{stack.ports.task('semantic_segmentation')}" for stack in (whole, damaged)]
        plan = load_plan("camvid")
        found = run_plan(
            plan,
            {"semantic_segmentation": addresses},
            tmp_path / "out",
            lambda *_: None,
            datasets=lambda name: frames,
        )
        write_report(plan.name, found, tmp_path / "out")
    good, bad = (each.findings for each in found)
    # The whole sequence of a hundred frames gives 0.702 with the same weights.
    assert good.metrics["mIoU"] == pytest.approx(0.70, abs=0.05)
    assert bad.metrics["mIoU"] < good.metrics["mIoU"] - 0.05
    assert (tmp_path / "out" / "confusion.png").is_file()
