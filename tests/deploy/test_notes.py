"""What Helm says after an installation: commands that lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from deploy.helm.chart_documents import CHART
from tests.deploy import chart
from tests.deploy.chart import PRESETS, SWITCHES, needs_helm

pytestmark = needs_helm

_NOTES_AS_OBJECT = """
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  notes: |
    {{- tpl (.Files.Get "notes.txt") . | nindent 4 }}
"""


def _notes(folder: Path, values: str = "", preset: str = "default") -> str:
    # `helm template` leaves the notes out, so they become an object of a copy of the chart.
    copy = folder / "chart"
    shutil.copytree(CHART, copy)
    (copy / "templates" / "NOTES.txt").rename(copy / "notes.txt")
    (copy / "templates" / "notes.yaml").write_text(_NOTES_AS_OBJECT)
    files = [argument for name in PRESETS[preset] for argument in ("--values", str(CHART / name))]
    ran = chart.helm(
        *("template", chart.RELEASE, str(copy), "--namespace", chart.NAMESPACE, "--kube-version", chart.KUBERNETES),
        *("--show-only", "templates/notes.yaml", *files),
        values=values,
    )
    assert ran.returncode == 0, ran.stderr
    return str(yaml.safe_load(ran.stdout)["data"]["notes"])


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_commands_name_is_there(preset: str, tmp_path: Path) -> None:
    notes = _notes(tmp_path, preset=preset)
    named = re.findall(r"(deployment|service)/(\S+) (\d+)", notes)
    assert {kind for kind, _, _ in named} == {"deployment", "service"}
    for kind, name, port in named:
        found = chart.named(kind.capitalize(), name, preset)
        if kind == "service":
            assert int(port) in {one["port"] for one in found["spec"]["ports"]}
        else:
            (container,) = chart.pod_spec(found)["containers"]
            assert int(port) in {one["containerPort"] for one in container["ports"]}
    assert "No camera is connected" in notes


def test_notes_warn_of_cameras_that_are_out_of_reach(tmp_path: Path) -> None:
    assert "Agent hall reaches no camera in a network" in _notes(tmp_path, SWITCHES["secret cameras"])


def test_notes_tell_the_address_outside(tmp_path: Path) -> None:
    assert "outside perception.example.org:443" in _notes(tmp_path, SWITCHES["ingress"])


def test_notes_of_a_system_without_a_viewer(tmp_path: Path) -> None:
    assert "perception-viewer" not in _notes(tmp_path, SWITCHES["no viewer"])


def test_notes_tell_what_callers_need(tmp_path: Path) -> None:
    assert 'PerceptionClient("localhost:50050")' in _notes(tmp_path / "plain")
    secured = _notes(tmp_path / "secured", f"{SWITCHES['tls']}\n{SWITCHES['keys at hand']}")
    assert "Callers need the CA of Secret perception-certificate, a certificate of it, a token" in secured
    assert "app.kubernetes.io/component=triton" in secured
    assert "Tokens cross the network as they are" in _notes(tmp_path / "tokens", SWITCHES["tokens"])
