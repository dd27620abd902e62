"""That what Go fetches is what was locked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.helm import tools
from deploy.lock import LOCKS

GO = LOCKS / "go"
PROGRAMS = {
    "helm": "helm.sh/helm/v3/cmd/helm",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform",
    "compose-config": "github.com/compose-spec/compose-go/v2/cmd",
}
SUM = r"h1:[A-Za-z0-9+/]{43}="


@pytest.mark.parametrize(("name", "package"), PROGRAMS.items())
def test_every_module_of_a_program_has_its_checksum(name: str, package: str) -> None:
    asked = (GO / name / "go.mod").read_text()
    assert f"\ntool {package}\n" in asked
    sums = (GO / name / "go.sum").read_text().splitlines()
    assert all(re.fullmatch(rf"\S+ v\S+ {SUM}", line) for line in sums)
    known = {tuple(line.split()[:2]) for line in sums}
    modules = re.findall(r"(?m)^\s*(?:require )?([\w./~-]+\.[\w./~-]+) (v\S+)", asked)
    assert modules
    assert set(modules) <= known
    assert "replace" not in asked


def test_every_module_that_is_read_as_files_has_its_checksum() -> None:
    lines = (GO / "modules.sum").read_text().splitlines()
    assert all(re.fullmatch(rf"\S+ v\S+ {SUM}", line) for line in lines)
    known = {"@".join(line.split()[:2]) for line in lines}
    assert {f"k8s.io/kubernetes@v{version}" for version in tools.KUBERNETES_VERSIONS} <= known
    assert tools.CUSTOM_RESOURCES.keys() <= known


def test_a_module_of_another_sum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why := tools.missing("kubeconform"):
        pytest.skip(why)  # where it was built, Go has the modules at hand
    (tmp_path / "modules.sum").write_text("sigs.k8s.io/gateway-api v1.6.3 h1:another\n")
    monkeypatch.setattr(tools, "_LOCKS", tmp_path)
    with pytest.raises(RuntimeError, match=r"sigs\.k8s\.io/gateway-api@v1\.6\.3: expected its line"):
        tools.module("sigs.k8s.io/gateway-api@v1.6.3")
