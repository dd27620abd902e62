from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from services.stack.session import Engine, StackOptions, choose_engine
from services.stack.supervisor import StackError


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=1000)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("engine", ["auto", "onnxruntime"])
def test_without_triton_a_profile_for_openvino_says_what_runs_it(
    engine: Engine, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_ENVIRONMENT", str(tmp_path))
    assert choose_engine(StackOptions("demo_openvino", engine, 50050), console) == "onnxruntime"
    assert "Profile demo_openvino is made for Triton's backend openvino" in said(console)
    assert ("Triton does not run here" in said(console)) == (engine == "auto")


def test_the_engine_that_was_asked_for_needs_no_words(console: Console) -> None:
    assert choose_engine(StackOptions("demo", "onnxruntime", 50050), console) == "onnxruntime"
    assert said(console) == ""


def test_triton_that_was_asked_for_and_does_not_run(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_ENVIRONMENT", str(tmp_path))
    with pytest.raises(StackError, match=r"ENGINE=triton: .* holds no Python environment with nvidia-pytriton"):
        choose_engine(StackOptions("demo", "triton", 50050), console)
