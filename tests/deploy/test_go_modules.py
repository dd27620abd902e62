"""That what Go fetches is what was locked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from deploy.helm import tools


def test_every_line_is_a_module_at_one_version_with_its_sum() -> None:
    lines = tools.CHECKSUMS.read_text().splitlines()
    assert all(re.fullmatch(r"\S+ v\S+ h1:[A-Za-z0-9+/]{43}=", line) for line in lines)
    named = [line.rpartition(" ")[0] for line in lines]
    assert len(named) == len(set(named))


def test_what_is_asked_for_by_name_is_there() -> None:
    known = {"@".join(line.split()[:2]) for line in tools.CHECKSUMS.read_text().splitlines()}
    kubernetes = {f"k8s.io/kubernetes@v{version}" for version in tools.KUBERNETES_VERSIONS}
    assert kubernetes | tools.CUSTOM_RESOURCES.keys() <= known


@pytest.mark.parametrize("name", ["helm", "kubeconform", "compose-config"])
def test_the_programs_are_made_of_what_is_locked(name: str) -> None:
    program = tools.CACHE / "bin" / name
    if shutil.which("go") is None or not program.is_file():
        pytest.skip(tools.missing(name) or "Go missing")
    made_of = tools.made_of(program)
    assert len(made_of) > 1
    tools.check_sums(made_of)


def test_another_sum_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = tmp_path / "go-modules.sum"
    sums.write_text("example.org/a v1.0.0 h1:one\n")
    monkeypatch.setattr(tools, "CHECKSUMS", sums)
    tools.check_sums(["example.org/a v1.0.0 h1:one"])
    with pytest.raises(RuntimeError, match=r"example\.org/a v1\.0\.0 h1:two"):
        tools.check_sums(["example.org/a v1.0.0 h1:one", "example.org/a v1.0.0 h1:two"])
