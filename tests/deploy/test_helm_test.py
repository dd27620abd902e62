"""What `helm test` runs, against real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.helm.chart_documents import CHART
from services.runtime.tokens import digest, new_token
from services.stack.layout import TASKS
from tests.support.certificates import Authority, environment
from tests.support.contract_models import write_repository
from tests.support.service import ServiceProcess, eventually
from tests.support.stack import TAXONOMY, Stack

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("helm_test")
    taxonomy = folder / "taxonomy.yaml"
    taxonomy.write_text(TAXONOMY)
    with Stack(write_repository(folder / "models"), str(taxonomy), "onnxruntime", folder / "run") as running:
        yield running


def _send_frame(gateway: str, tasks: str = " ".join(TASKS), **told: object) -> subprocess.CompletedProcess[str]:
    given = {name: str(value) for name, value in told.items()}
    environment = {**os.environ, "GATEWAY": gateway, "TASKS": tasks, **given}
    script = (CHART / "files" / "send_frame.py").read_text()
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=110
    )


def test_a_system_that_works_passes(stack: Stack) -> None:
    ran = _send_frame(stack.address)
    assert ran.returncode == 0, ran.stderr
    for task in TASKS:
        assert f"{task}: OK" in ran.stdout or f"{task}: SKIPPED" in ran.stdout
    assert "segments in a frame of 640x480" in ran.stdout


def test_what_does_not_work_is_named(stack: Stack) -> None:
    stack.kill("semantic_segmentation")
    ran = _send_frame(stack.address)
    assert ran.returncode == 1
    assert "semantic_segmentation: not ready" in ran.stderr


def test_a_gateway_that_is_away_is_named() -> None:
    ran = _send_frame("127.0.0.1:1")
    assert ran.returncode == 1
    assert "the gateway at 127.0.0.1:1 does not answer" in ran.stderr


def test_certificate_and_token_are_shown_and_asked_for(tmp_path: Path) -> None:
    certificate = environment(Authority.make(tmp_path).issue("all"))
    mutual = {**certificate, "TLS_CLIENT_AUTHENTICATION": "required"}
    models = write_repository(tmp_path / "models")
    (tmp_path / "taxonomy.yaml").write_text(TAXONOMY)
    token = new_token()
    entry = {"name": "test", "sha256": digest(token), "scopes": ["describe", "perceive"]}
    (tmp_path / "tokens.yaml").write_text(yaml.safe_dump([entry]))
    (tmp_path / "token").write_text(token)
    tokens = {"AUTHENTICATION": "required", "AUTHENTICATION_TOKENS_FILE": tmp_path / "tokens.yaml"}
    with (
        ServiceProcess("detection", tmp_path, **mutual, ENGINE="onnxruntime", MODEL_REPOSITORY=models) as detection,
        ServiceProcess(
            "gateway",
            tmp_path,
            **mutual,
            **tokens,
            DETECTION_URL=detection.address,
            TAXONOMY=tmp_path / "taxonomy.yaml",
        ) as gateway,
        ServiceProcess("viewer", tmp_path, **certificate, **tokens, GATEWAY_URL=gateway.address) as viewer,
    ):
        told = {**certificate, "TOKEN_FILE": tmp_path / "token", "VIEWER": f"https://{viewer.address}"}
        eventually(lambda: _send_frame(gateway.address, "detection", **told).returncode == 0)
        stranger = environment(Authority.make(tmp_path, "stranger").issue("stranger"))
        ran = _send_frame(gateway.address, "detection", **(told | stranger | {"TLS_CA_FILE": told["TLS_CA_FILE"]}))
        assert ran.returncode == 1
        assert f"the gateway at {gateway.address} does not answer" in ran.stderr
        del told["TOKEN_FILE"]
        assert "does not answer: no token" in _send_frame(gateway.address, "detection", **told).stderr
