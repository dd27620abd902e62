"""What `python -m deploy.helm.tools` builds, and when it builds it anew."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from deploy.helm import tools

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="Go missing")

_MODULE = "example.org/tool"
_PROGRAM = 'package main\n\nfunc main() { println("tool", "{version}") }\n'


def _publish(proxy: Path, *versions: str) -> None:
    """Puts versions of a module with one program where Go gets its modules from."""
    folder = proxy / _MODULE / "@v"
    folder.mkdir(parents=True)
    (folder / "list").write_text("\n".join(versions))
    go_mod = f"module {_MODULE}\n\ngo 1.21\n"
    for version in versions:
        (folder / f"{version}.info").write_text(f'{{"Version": "{version}"}}')
        (folder / f"{version}.mod").write_text(go_mod)
        with zipfile.ZipFile(folder / f"{version}.zip", "w") as archive:
            archive.writestr(f"{_MODULE}@{version}/go.mod", go_mod)
            archive.writestr(f"{_MODULE}@{version}/main.go", _PROGRAM.replace("{version}", version))


def _lock(folder: Path, version: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text("module tools/the-tool\n\ngo 1.21\n")
    subprocess.run(["go", "get", f"{_MODULE}@{version}"], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions of a program, and the folder that pins the first."""
    _publish(tmp_path / "proxy", "v1.0.0", "v1.1.0")
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path / 'proxy'}")
    monkeypatch.setenv("GOSUMDB", "off")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(tools, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(tools, "_PROGRAMS", {"the-tool": _MODULE})
    monkeypatch.setattr(tools, "_LOCKS", tmp_path / "locks")
    _lock(tmp_path / "locks" / "the-tool", "v1.0.0")
    return tmp_path / "locks" / "the-tool"


def test_a_cached_program_of_another_version_is_built_anew(locked: Path) -> None:
    tools.build("the-tool")
    assert _says() == "tool v1.0.0"
    _lock(locked, "v1.1.0")
    assert tools.missing("the-tool") == "the-tool missing: python -m deploy.helm.tools"
    tools.build("the-tool")
    assert _says() == "tool v1.1.0"


def test_a_build_that_fails_leaves_no_program_of_the_old_version(locked: Path) -> None:
    tools.build("the-tool")
    (locked / "go.mod").write_text((locked / "go.mod").read_text().replace("v1.0.0", "v9.0.0"))
    with pytest.raises(subprocess.CalledProcessError):
        tools.build("the-tool")
    assert tools.program("the-tool") is None


def test_schemas_of_other_versions_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "CACHE", tmp_path)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "complete").write_text("1.20.0")
    assert "Kubernetes' schemas" in tools.missing("kubeconform")


def _says() -> str:
    program = tools.program("the-tool")
    assert program is not None
    return subprocess.run([program], capture_output=True, text=True, check=True).stderr.strip()
