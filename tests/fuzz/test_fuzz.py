"""The short form of `make fuzz`: the same cases every time, and whatever a fuzzer once found."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import rpc, web
from tests.fuzz.child import LARGEST_GROWTH_MEGABYTES
from tests.fuzz.rpc import RPCS, System
from tests.fuzz.targets import PROJECT, TARGETS
from tests.fuzz.web import Viewers

CASES = 100
CALLS = 8 * len(RPCS)
REQUESTS = 400
LARGEST_PROCESS_GROWTH_MEGABYTES = 512


def test_decoders_and_settings_answer_or_refuse(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz.child", *(target.name for target in TARGETS)]
    command += [f"--findings={tmp_path}", f"--cases={CASES}"]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    reports = {report["target"]: report for report in map(json.loads, ran.stdout.splitlines())}
    assert reports.keys() == {target.name for target in TARGETS}
    for report in reports.values():
        assert report["found"] == {}
        assert report["refused"], f"{report['target']}: no case was refused, so none was hostile"
        assert report["accepted"], f"{report['target']}: no case was answered, so none came far"
        assert report["largest_growth_megabytes"] < LARGEST_GROWTH_MEGABYTES


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with System(tmp_path_factory.mktemp("system")) as running:
        yield running


@pytest.mark.integration
def test_every_rpc_of_every_service_answers_or_refuses(system: System) -> None:
    before = system.megabytes()
    report = rpc.attack(system, iter(range(CALLS)), seed=0)
    growth = {name: after - before[name] for name, after in system.megabytes().items()}
    assert report.found == []
    assert report.calls == CALLS
    assert report.codes["OK"] > 0
    assert report.codes["INVALID_ARGUMENT"] > 0
    assert max(growth.values()) < LARGEST_PROCESS_GROWTH_MEGABYTES, growth


@pytest.mark.integration
def test_the_viewer_answers_or_refuses(system: System, tmp_path: Path) -> None:
    with Viewers(system, tmp_path) as viewers:
        before = viewers.megabytes()
        report = asyncio.run(web.attack(viewers, iter(range(REQUESTS)), seed=0))
        growth = [after - first for first, after in zip(before, viewers.megabytes(), strict=True)]
    assert report.found == []
    assert report.calls == REQUESTS
    assert {"101", "200", "400", "404"} <= report.codes.keys()
    assert max(growth) < LARGEST_PROCESS_GROWTH_MEGABYTES
