"""Ports, processes and what each is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.runtime.engines.shared_slots import remove_leftovers
from services.stack.layout import PROJECT, TASKS, Ports, processes, tasks_in, watching


def test_every_port_of_a_stack_is_its_own() -> None:
    ports = Ports(50050)
    assert ports.gateway == 50050
    assert len(set(ports.all())) == len(ports.all()) == 1 + 4 + 3 + 2 + 7
    assert {ports.gateway, *(ports.task(task) for task in TASKS)} <= set(ports.all())


@pytest.mark.parametrize("distance", [20, 3000])
def test_two_stacks_do_not_meet(distance: int) -> None:
    assert not set(Ports(50050).all()) & set(Ports(50050 + distance).all())


@pytest.mark.parametrize("base", [1024, 65000])
def test_the_least_and_the_greatest_base_that_the_command_takes(base: int) -> None:
    assert all(1024 <= port <= 65535 for port in Ports(base).all())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for task in ("detection", "semantic_segmentation"):
        (tmp_path / task).mkdir()
        (tmp_path / task / "config.pbtxt").write_text("")
    (tmp_path / "classification").mkdir()  # without a configuration
    return tmp_path


def test_tasks_are_those_that_have_a_model(repository: Path) -> None:
    assert tasks_in(repository) == ["detection", "semantic_segmentation"]


def test_a_repository_without_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected folders named after tasks"):
        tasks_in(tmp_path)


def test_processes_are_told_where_the_others_are(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a caller happens to have in the environment is no setting of a service.
    monkeypatch.setenv("SCORE_THRESHOLD", "0.9")
    monkeypatch.setenv("MODEL_NAME", "other")
    ports = Ports(51000)
    specs = {spec.name: spec for spec in processes(repository, "street", "onnxruntime", ports, repository / "run")}
    assert list(specs) == ["detection", "semantic_segmentation", "gateway"]
    for name, spec in specs.items():
        assert list(spec.argv) == [sys.executable, "-m", f"services.{name}"]
        assert spec.cwd == PROJECT
        assert spec.env["HOST"] == "127.0.0.1"
        assert spec.health == f"127.0.0.1:{spec.env['PORT']}"
        assert spec.env["METRICS_PORT"] == str(ports.metrics(name))
        assert "SCORE_THRESHOLD" not in spec.env
    detection, gateway = specs["detection"].env, specs["gateway"].env
    assert (detection["ENGINE"], detection["MODEL_NAME"]) == ("onnxruntime", "detection")
    assert detection["MODEL_REPOSITORY"] == str(repository)
    assert detection["TRITON_SHARED_MEMORY"] == "true"
    assert specs["detection"].clear is remove_leftovers
    assert gateway["TAXONOMY"] == "street"
    assert gateway["DETECTION_URL"] == specs["detection"].health
    assert gateway["SEMANTIC_SEGMENTATION_URL"] == specs["semantic_segmentation"].health
    assert "CLASSIFICATION_URL" not in gateway


def test_the_page_is_told_where_the_cameras_and_the_gateway_are(tmp_path: Path) -> None:
    ports = Ports(51000)
    camera, viewer = watching(ports, tmp_path / "cameras.yaml")
    assert list(camera.argv)[-3:] == ["camera", "run", str(tmp_path / "cameras.yaml")]
    assert camera.health == viewer.env["CAMERA_AGENTS"] == f"127.0.0.1:{ports.camera}"
    assert viewer.env["GATEWAY_URL"] == f"127.0.0.1:{ports.gateway}"
    assert viewer.health == f"http://127.0.0.1:{viewer.env['PORT']}/healthz"


def test_without_cameras_there_is_the_page_alone() -> None:
    (viewer,) = watching(Ports(51000), None)
    assert viewer.env["CAMERA_AGENTS"] == ""
