"""The command's errors and help, in its own process's terms."""

import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

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
