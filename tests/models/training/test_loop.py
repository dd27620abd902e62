"""Every architecture learns from the scenes, stops, resumes and repeats itself."""

import json

import pytest

torch = pytest.importorskip("torch")

from rich.console import Console  # noqa: E402

from models.architectures.trained import ARCHITECTURES, load_trained  # noqa: E402
from models.training.batches import batches_from, step_indices  # noqa: E402
from models.training.config import ConfigError  # noqa: E402
from models.training.loop import Trainer, learning_rate_factor  # noqa: E402
from models.training.tasks import build_task  # noqa: E402

QUIET = Console(quiet=True)
CPU = torch.device("cpu")


def trainer(config, frames, runs, **options):
    return Trainer(config, build_task(config, **frames), runs / config.name, CPU, workers=0, **options)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_few_steps_on_one_batch_lower_the_loss(architecture, frames, tmp_path, run_config):
    config = run_config(architecture, steps=40, augmentation={"crop": [64, 64], "horizontal_flip": 0.0})
    training = trainer(config, frames, tmp_path)
    batch = next(batches_from(training.task, 0, workers=0))
    losses = [training._train_step(batch).item() for _ in range(15)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_resumed_run_ends_with_the_very_weights_of_an_uninterrupted_one(architecture, frames, tmp_path, run_config):
    config = run_config(architecture)
    whole = trainer(config, frames, tmp_path / "whole")
    metrics = whole.run(QUIET)
    assert (
        metrics[whole.task.headline]
        == load_trained(tmp_path / "whole" / architecture / "model.pt").metrics[whole.task.headline]
    )

    first_part = trainer(config, frames, tmp_path / "parts")
    train_step = first_part._train_step

    def stop_after_three(batch):
        if first_part.step == 2:
            first_part.stop()
        return train_step(batch)

    first_part._train_step = stop_after_three
    assert first_part.run(QUIET) == {}
    assert first_part.step == 3
    second_part = trainer(config, frames, tmp_path / "parts")
    assert second_part.step == 3
    second_part.run(QUIET)
    assert same(whole.model.state_dict(), second_part.model.state_dict())
    assert same(whole.average.state_dict(), second_part.average.state_dict())


def test_seed_decides_the_weights(frames, tmp_path, run_config):
    weights = []
    for index, seed in enumerate((3, 3, 4)):
        training = trainer(run_config("bisenet", seed=seed, steps=2), frames, tmp_path / str(index))
        training.run(QUIET)
        weights.append(training.model.state_dict())
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_worker_process_prepares_the_same_batches(frames, run_config):
    task = build_task(run_config("bisenet"), **frames)
    here, there = next(batches_from(task, 2, workers=0)), next(batches_from(task, 2, workers=1))
    assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))


def test_run_leaves_its_records(frames, tmp_path, run_config):
    training = trainer(run_config("bisenet", steps=20, validate_every=10), frames, tmp_path)
    training.run(QUIET)
    folder = tmp_path / "bisenet"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "mIoU" in line] == [10, 20]
    assert [line["step"] for line in lines if "loss" in line] == [20]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 20
    assert summary["metrics"]["mIoU"] == lines[-1]["mIoU"]
    assert summary["config"]["dataset"]["validation_seeds"] == [2, 3]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_checkpoint_of_another_configuration_is_refused(frames, tmp_path, run_config):
    trainer(run_config("bisenet", steps=1), frames, tmp_path).run(QUIET)
    with pytest.raises(ConfigError, match="another configuration: steps, learning_rate differ"):
        trainer(run_config("bisenet", steps=2, learning_rate=0.1), frames, tmp_path)
    assert trainer(run_config("bisenet", steps=2), frames, tmp_path, resume=False).step == 0


def test_detector_begins_with_the_backbone_of_an_earlier_run(frames, tmp_path, run_config):
    initial = {"run": "bisenet", "prefix": "cp.resnet.", "target": "backbone.body."}
    config = run_config("mask_rcnn", initial_weights=initial)
    with pytest.raises(ConfigError, match="begins with weights of run 'bisenet', but there is no"):
        trainer(config, frames, tmp_path)
    trainer(run_config("bisenet", steps=1), frames, tmp_path).run(QUIET)
    backbone = load_trained(tmp_path / "bisenet" / "model.pt").model.cp.resnet.state_dict()
    assert same(trainer(config, frames, tmp_path).model.backbone.body.state_dict(), backbone)
    wrong = run_config("mask_rcnn", initial_weights=initial | {"target": "backbone.fpn."})
    with pytest.raises(ConfigError, match="found 0 of them"):
        trainer(wrong, frames, tmp_path)


def test_every_epoch_shows_every_example_once_in_a_new_order():
    epochs = [
        [index for step in range(5 * e, 5 * e + 5) for index in step_indices(step, 2, 10, seed=1)] for e in (0, 1)
    ]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]


def test_learning_rate_warms_up_and_decays(run_config):
    config = run_config("bisenet", steps=100, warmup_steps=9)
    factors = [learning_rate_factor(step, config) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == max(factors)
    assert factors[9:] == sorted(factors[9:], reverse=True)
    assert factors[100] == 0
