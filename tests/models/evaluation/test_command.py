from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from models.evaluation.command import evaluate
from tests.support.triton import free_ports

app = typer.Typer()
app.command()(evaluate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["moon", "--gateway", "127.0.0.1:1"], "found 'moon'"),
        (["coco"], "expected one or more of --task detection=…, --task instance_segmentation=…, --gateway"),
        (["demo"], "--task semantic_segmentation=…, --task classification=…, --gateway; found none of them"),
        (["coco", "--task", "classification=127.0.0.1:1"], "expected one or more of --task detection"),
        (["coco", "--task", "127.0.0.1:1"], "expected one of detection, "),
        (["coco", "--task", "detection="], "expected one of detection, "),
        (["coco", "--task", "detektion=127.0.0.1:1"], "found 'detektion=127.0.0.1:1'"),
        (["coco", "--gateway", "127.0.0.1:1"], "$PERCEPTION_DATA, found it unset"),
        (["demo", "--gateway", "127.0.0.1:1", "--output", "/proc/none"], "No such file or directory: '/proc/none'"),
    ],
)
def test_wrong_usage_ends_with_status_2(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERCEPTION_DATA", raising=False)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output


@pytest.mark.parametrize("option", ["--gateway={}", "--task=detection={}"])
def test_a_system_that_does_not_answer_fails(option: str, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    earlier = tmp_path / "demo" / "metrics.json"
    earlier.parent.mkdir()
    earlier.write_text('{"passed": true}')
    result = CliRunner().invoke(app, ["demo", option.format(address), "--output", str(tmp_path)])
    assert result.exit_code == 1, result.output
    assert "UNAVAILABLE" in result.output
    assert address in result.output
    assert not earlier.exists()


def test_half_a_certificate_ends_with_status_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLS_CERTIFICATE_FILE", "caller.crt")
    result = CliRunner().invoke(app, ["demo", "--gateway", "127.0.0.1:1"])
    assert result.exit_code == 2, result.output
    assert "expected TLS_CA_FILE beside TLS_CERTIFICATE_FILE" in result.output
