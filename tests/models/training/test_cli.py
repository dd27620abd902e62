"""The command's errors and help, in its own process's terms."""

import shutil

import pytest
import yaml

pytest.importorskip("torch")

from typer.testing import CliRunner

from models.training import config
from models.training.cli import app


def test_unknown_run_is_named_together_with_those_there_are():
    result = CliRunner().invoke(app, ["--model", "segformer"])
    assert result.exit_code == 2
    assert "segformer.yaml" in result.output.replace("\n", "")
    assert "bisenet_camvid" in result.output


def test_help_says_how_to_go_on():
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--resume" in result.output
    assert "--device" in result.output


def test_what_a_run_builds_on_is_trained_first_and_once(tmp_path, monkeypatch, run_config):
    fields = run_config("classifier", steps=2, validate_every=2).model_dump(mode="json", exclude={"name"})
    later = fields | {"initial_weights": {"run": "earlier", "prefix": "", "target": ""}}
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "earlier.yaml").write_text(yaml.safe_dump(fields))
    (configs / "later.yaml").write_text(yaml.safe_dump(later))
    monkeypatch.setattr(config, "CONFIG_FOLDER", configs)
    monkeypatch.chdir(tmp_path)  # its frames are cached there

    def train(model):
        arguments = ["--model", model, "--runs", str(tmp_path / "runs"), "--workers", "0", "--device", "cpu"]
        result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return [line.partition(":")[0] for line in result.output.splitlines() if ": steps " in line]

    assert train("later") == ["earlier", "later"]
    assert train("later") == ["later"]
    # One that was broken off is no ground to build on.
    (configs / "earlier.yaml").write_text(yaml.safe_dump(fields | {"steps": 4, "validate_every": 4}))
    shutil.rmtree(tmp_path / "runs" / "earlier")
    assert train("later") == ["earlier", "later"]
