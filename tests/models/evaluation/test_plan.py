from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.schema import CatalogError
from models.datasets.sample import DatasetError
from models.evaluation.datasets import SCENE_TEST_SEEDS, SCENE_TEST_SEQUENCE_SEEDS, open_dataset
from models.evaluation.plan import PLANS, Step, expectations_of, load_plan
from models.evaluation.result import Expectation

PROFILES = sorted(path.stem for path in PLANS.glob("*.yaml"))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_plan_names_data_sets_that_exist(profile: str, perception_data: Path) -> None:
    plan = load_plan(profile)
    assert plan.name == profile
    assert all(len(open_dataset(step.dataset)) > 0 for step in plan.steps)


def test_test_scenes_are_of_both_worlds_and_none_is_trained_on() -> None:
    dataset = open_dataset("scenes_test")
    assert {dataset[index].file_name.split("-")[0] for index in range(4)} == {"street", "line"}
    for config in Path("models/training/configs").glob("*.yaml"):
        text = config.read_text()
        seeds = [line.split("[")[1].split(",") for line in text.splitlines() if "_seeds:" in line]
        assert all(int(end.strip(" ]")) <= SCENE_TEST_SEEDS.start for _, end in seeds), config


def test_test_sequences_are_of_both_worlds_and_scenes_of_their_own() -> None:
    assert not set(SCENE_TEST_SEQUENCE_SEEDS) & {*SCENE_TEST_SEEDS, *range(SCENE_TEST_SEEDS.start)}
    dataset = open_dataset("scenes_test_sequences")
    frames = len(dataset) // (2 * len(SCENE_TEST_SEQUENCE_SEEDS))
    first, second, other = (dataset[index] for index in (0, 1, frames))
    assert (first.video, second.video, other.video) == ("street-200100", "street-200100", "line-200100")
    assert (first.seconds, second.seconds, other.seconds) == (0.0, 0.08, 0.0)
    tracks = [{thing.track_id for thing in sample.things} for sample in (first, second)]
    assert len(tracks[0] & tracks[1]) > 1


def test_an_unknown_profile() -> None:
    known = "camvid, coco, coco_openvino, demo, demo_apache, demo_openvino"
    with pytest.raises(CatalogError, match=f"one of {known}; found 'moon'"):
        load_plan("moon")


def test_an_unknown_data_set() -> None:
    with pytest.raises(DatasetError, match=r"expected one of scenes_test, .*, found 'moon'"):
        open_dataset("moon")


def test_real_data_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERCEPTION_DATA", raising=False)
    with pytest.raises(DatasetError, match=r"\$PERCEPTION_DATA, found it unset"):
        open_dataset("camvid_val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: odd\nsteps: []\n", "steps: .*at least 1"),
        ("name: odd\nsteps: [{subject: pose, dataset: x}]\n", "steps.0.subject: .*found 'pose'"),
        ("name: odd\nsteps: [{subject: system, dataset: x, metric: PQ}]\n", "steps.0.metric: no such key"),
        (
            "name: odd\n"
            "steps: [{subject: detection, dataset: x, expectations: [{metric: a, value: 1, tolerance: 0}]}]\n",
            "steps.0: expectations of a model belong into its catalogue entry",
        ),
    ],
)
def test_a_wrong_plan_names_file_and_key(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(CatalogError, match=message):
        load_plan("odd", tmp_path)


@pytest.mark.parametrize("subject", ["system", "tracking"])
def test_the_whole_is_held_to_the_plan(subject: str) -> None:
    expected = {"metric": "HOTA", "value": 0.5, "tolerance": 0.03}
    step = Step.model_validate({"subject": subject, "dataset": "scenes_test", "expectations": [expected]})
    assert expectations_of(step, "") == (Expectation("HOTA", 0.5, 0.03),)


def test_a_model_is_held_to_its_catalogue_entry_for_that_data_set(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        "{name: net, description: d, task: semantic_segmentation, adapter: onnx, licence: MIT, labels: [sky],"
        " image: {resize: stretch, width: 8, height: 8}, head: {kind: semantic}, source: {file: net.onnx}, metrics: ["
        "{dataset: camvid_val, metric: mIoU, value: 0.7, tolerance: 0.01},"
        "{dataset: elsewhere, metric: mIoU, value: 0.9, tolerance: 0.01}]}"
    )
    step = Step(subject="semantic_segmentation", dataset="camvid_val")
    assert expectations_of(step, "net", tmp_path) == (Expectation("mIoU", 0.7, 0.01),)
    with pytest.raises(CatalogError, match="found 'other'"):
        expectations_of(step, "other", tmp_path)
