"""The models alone, and how fairness is counted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.cameras import jain
from loadtest.bench.floor import floor, model_input, models_of
from loadtest.bench.system import cpu_ms
from loadtest.bench.worker import WorkerError
from tests.support.contract_models import TASKS, write_repository

FRAMES = 2


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one small model per task."""
    return write_repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def inputs(repository: Path, tmp_path: Path) -> Path:
    """The tensors of two frames, with a classification of two calls in the first and none in the second."""
    picture = np.zeros((90, 160, 3), np.uint8)
    arrays = {
        f"{task}.{frame}.{call}": model_input(picture, model)
        for task, (model, _) in models_of(repository).items()
        for frame, call in ([(0, 0), (0, 1)] if task == "classification" else [(0, 0), (1, 0)])
    }
    np.savez(tmp_path / "inputs.npz", **arrays)  # type: ignore[arg-type]  # its stub takes the first for a flag
    return tmp_path / "inputs.npz"


@pytest.mark.parametrize("in_flight", [0, 3])
def test_the_floor_runs_every_model(
    repository: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_flight: int
) -> None:
    monkeypatch.setenv("TRITON_ENVIRONMENT", sys.prefix)

    with floor(repository, inputs, tmp_path / "log") as worker:
        found = worker.ask({"run": 0.2, "in_flight": in_flight})
        each = worker.ask({"each": 2})

    assert found["throughput"] > 0
    assert found["cpu"] > 0
    assert set(each) == set(TASKS)
    assert all(cpu >= 0 for cpu in each.values())


@pytest.mark.skipif(importlib.util.find_spec("openvino") is not None, reason="OpenVINO is here")
def test_a_runtime_that_is_missing_is_named(
    repository: Path, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_ENVIRONMENT", sys.prefix)

    with (
        pytest.raises(WorkerError, match="No module named 'openvino'"),
        floor(repository, inputs, tmp_path / "log", "openvino f32"),
    ):
        pass


@given(st.integers(1, 100), st.integers(1, 1000))
def test_equal_shares_are_fair(streams: int, share: int) -> None:
    assert jain([share] * streams) == pytest.approx(1)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=64).filter(any))
def test_fairness_lies_between_one_for_all_and_all_for_one(shares: list[int]) -> None:
    assert 1 / len(shares) * (1 - 1e-9) <= jain(shares) <= 1 + 1e-9


def test_nobody_served_is_not_fair() -> None:
    assert jain([0, 0]) == 0


def test_cpu_time_of_a_process_grows_with_its_work() -> None:
    import os
    import time

    before, worked = cpu_ms(os.getpid()), time.process_time_ns()
    while time.process_time_ns() - worked < 50e6:
        pass

    assert cpu_ms(os.getpid()) - before == pytest.approx(50, rel=0.5)
