import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.cli import app
from models.export.contract import check_contract
from tests.models.export.test_repository import classifier

runner = CliRunner(env={"COLUMNS": "200"})


def invoke(*arguments: str) -> tuple[int, str]:
    result = runner.invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("command", ["list", "build", "verify", "export", "fetch", "check"])
def test_every_command_explains_itself(command: str) -> None:
    code, output = invoke(command, "--help")
    assert code == 0
    assert "Usage" in output


def test_the_list_shows_every_entry_and_where_its_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERCEPTION_DATA", raising=False)
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "yolov8n.pt").write_bytes(b"something else")
    code, output = invoke("list")
    assert code == 0
    rows = {line.split()[0]: line for line in output.splitlines() if line.split()}
    assert "wrong SHA-256" in rows["yolov8n_ultralytics"]
    assert "to download" in rows["resnet18_imagenet"]
    assert "bring your own" in rows["bisenetv1_cityscapes"]
    assert "AGPL-3.0" in rows["yolo11n_seg_ultralytics"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "nowhere"], "error: expected a profile of"),
        (["fetch", "nothing"], "error: expected an entry of"),
        (["export", "yolov8n_coco", "--output", "x.onnx"], "error: expected yolov8n_640_fp32.onnx in one of"),
        (["export", "demo_detector", "--output", "/proc/none/x.onnx"], "No such file or directory: '/proc/none'"),
        (["check", __file__, "--task", "detection"], "test_cli.py: expected an ONNX file, found something else"),
        (["fetch", "mask_rcnn_r50_fpn_3x_detectron2"], "No SHA-256 is known of https://dl.fbaipublicfiles.com"),
    ],
)
def test_what_the_user_got_wrong_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.delenv("PERCEPTION_DATA", raising=False)
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code, output = invoke(*arguments)
    assert code == 1
    assert message in output
    assert "Traceback" not in output


def test_a_graph_is_checked_against_a_task(tmp_path: Path) -> None:
    network = classifier(tmp_path / "network.onnx")
    code, output = invoke("check", str(network), "--task", "classification")
    assert code == 1
    assert "expected one input image UINT8" in output


def test_an_entry_is_exported_checked_and_built(perception_data: Path, tmp_path: Path) -> None:
    output = tmp_path / "model.onnx"
    code, text = invoke("export", "espnet_camvid", "--output", str(output))
    assert code == 0, text
    check_contract(output, "semantic_segmentation")
    assert invoke("check", str(output), "--task", "semantic_segmentation")[0] == 0
    code, text = invoke("fetch", "espnet_camvid")
    assert code == 0
    assert "espnet_p2q8_camvid.onnx" in text
    for state in ("written", "is up to date"):
        code, text = invoke("build", "street", "--output", str(tmp_path / "street"))
        assert code == 0, text
        assert f"classification: mobilenet_v2_imagenet {state}" in text
    for task in ("detection", "instance_segmentation", "semantic_segmentation", "classification"):
        check_contract(tmp_path / "street" / task / "1" / "model.onnx", task)


def test_the_commands_run_as_a_module_and_without_torch() -> None:
    code = "import sys, models.cli; assert 'torch' not in sys.modules and 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    run = subprocess.run([sys.executable, "-m", "models", "--help"], check=True, capture_output=True, text=True)
    assert "build" in run.stdout
