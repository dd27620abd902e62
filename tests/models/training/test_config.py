"""Configurations of runs: the bundled ones load, wrong ones say what is wrong."""

import pytest

pytest.importorskip("torch")

from models.architectures.trained import ARCHITECTURES, build_model
from models.training.config import CamVid, ConfigError, Scenes, available_runs, load_config
from models.training.tasks import TASKS

GOOD = """
architecture: {name: bisenet}
dataset: {name: scenes, train_seeds: [0, 8], validation_seeds: [8, 9], frames_per_sequence: 1, width: 96, height: 96}
steps: 10
batch_size: 2
learning_rate: 0.001
weight_decay: 0.0
warmup_steps: 1
validate_every: 5
"""


def load(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_config(path)


def test_there_is_a_run_for_every_bundled_model():
    bundled = {"bisenet", "bisenet_camvid", "classifier", "detector", "faster_rcnn", "mask_rcnn"}
    assert set(available_runs()) == bundled | {
        "backbone",
        "bisenet_first",
        "bisenet_second",
        "detector_first",
        "mask_rcnn_first",
    }
    assert set(TASKS) == set(ARCHITECTURES)


@pytest.mark.parametrize("run", available_runs())
def test_bundled_run_names_a_model_and_a_dataset_that_exist(run):
    config = load_config(run)
    assert config.name == run
    assert build_model(config.architecture.name, 3, config.architecture.options)
    assert isinstance(config.dataset, CamVid | Scenes)
    if config.initial_weights:
        assert config.initial_weights.run in available_runs()


def test_a_file_of_ones_own_is_a_run(tmp_path):
    config = load(GOOD, tmp_path)
    assert config.name == "mine"
    assert config.dataset.validation_seeds == (8, 9)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 10", "steps: 0", r"steps: .*greater than or equal to 1, found 0"),
        ("steps: 10", "stepps: 10", r"stepps: Extra inputs are not permitted"),
        ("steps: 10", "", r"steps: Field required"),
        ("bisenet", "segformer", r"architecture.name: .*'bisenet'.*, found 'segformer'"),
        ("name: scenes", "name: imagenet", r"dataset: .*'camvid', 'scenes'"),
        ("[8, 9]", "[7, 9]", r"train_seeds \(0, 8\) and validation_seeds \(7, 9\) overlap"),
        ("[8, 9]", "[9, 9]", r"first < end, found \[9, 9\)"),
        ("steps: 10", "steps: [", r"expected YAML"),
    ],
)
def test_wrong_field_is_named(old, new, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        load(GOOD.replace(old, new), tmp_path)


def test_missing_file_and_wrong_content_are_named(tmp_path):
    with pytest.raises(ConfigError, match="expected one of backbone, bisenet"):
        load_config("resnet")
    with pytest.raises(ConfigError, match="expected a mapping of fields, found list"):
        load("- a", tmp_path)
