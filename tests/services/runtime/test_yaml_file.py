"""YAML that no settings file holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.runtime.yaml_file import MAX_BYTES, YamlError, read_yaml


def _read(folder: Path, data: bytes) -> object:
    path = folder / "settings.yaml"
    path.write_bytes(data)
    return read_yaml(path)


def test_what_people_write_is_read(tmp_path: Path) -> None:
    text = b"shared: &shared {loop: true}\ncameras:\n  - {<<: *shared, name: a}\n  - {<<: *shared, name: b}\n"
    assert _read(tmp_path, text) == {
        "shared": {"loop": True},
        "cameras": [{"loop": True, "name": "a"}, {"loop": True, "name": "b"}],
    }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a: [", "expected YAML; "),
        (b"\xff\xfe", "expected YAML; "),
        (b"!!int word", "expected YAML; "),
        (b"!!int ''", "expected YAML; "),
        (b"!!bool perhaps", "expected YAML; "),
        (b"!!timestamp soon", "expected YAML; "),
        (b"2001-99-99", "expected YAML; "),
        (b"9" * 5000, "expected YAML; "),
        (b"!!python/object:os.system x", "expected YAML; "),
        (b"? {a: b}\n: c", "expected YAML; "),
        (b"a: 1\n---\nb: 2", "expected YAML; "),
        (b"\n" + b"[" * 5000, "line 2: expected at most 32 levels"),
        (b"a" * (MAX_BYTES + 1), f"expected at most {MAX_BYTES} bytes"),
    ],
)
def test_what_is_none_says_why(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(YamlError, match=words):
        _read(tmp_path, data)


@pytest.mark.parametrize("use", ["[*{0}, *{0}]", "{{<<: [*{0}, *{0}]}}"], ids=["a laugh", "a merge"])
def test_lines_that_double_what_the_line_before_holds_are_refused(tmp_path: Path, use: str) -> None:
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {use.format(f'a{n - 1}')}" for n in range(1, 60))]
    with pytest.raises(YamlError, match="line 2: expected no alias inside of an anchor"):
        _read(tmp_path, "\n".join(lines).encode())


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / "settings.yaml")
