"""`perception loadtest` as a person calls it, on a system of real processes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import cv2
import pytest
from perception import drawing
from typer.testing import CliRunner

from loadtest import watched
from loadtest.cli import app
from loadtest.knee import Knee
from loadtest.report import read
from loadtest.result import Result
from tests.support.contract_models import picture
from tests.support.stack import Stack

pytestmark = pytest.mark.integration


def command(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("a", "b", "c"):
        drawing.write_picture(picture(), folder / f"{name}.png")
    (folder / "d.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def opened(small_stack: Stack, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An open loop of two client processes: the JSON, and what was printed."""
    output = tmp_path_factory.mktemp("results") / "opened.json"
    pids = [f"--pid={small_stack.supervisor.process(name).pid}" for name in ("gateway", "detection")]
    metrics = f"http://127.0.0.1:{small_stack.ports.metrics('gateway')}/metrics"
    status, printed = command(
        *("open", "--address", small_stack.address, "--rate", 20, "--arrivals", "fixed", "--source", pictures),
        *("--seconds", 1, "--warmup", 0.5, "--processes", 2, *pids, "--metrics", metrics, "--output", output),
    )
    assert status == 0, printed
    return output, printed


def test_an_open_loop_counts_every_frame_and_says_what_became_of_it(opened: tuple[Path, str]) -> None:
    _, result = read(opened[0])
    assert isinstance(result, Result)
    assert result.due == 20
    assert result.due == result.scenes + result.failed
    # Every fourth frame was no picture.
    assert result.errors["INVALID_ARGUMENT"].count == 5
    assert "image" in result.errors["INVALID_ARGUMENT"].message
    assert result.tasks["detection OK"] == result.scenes
    assert result.latency.p50 <= result.latency.p99 <= result.latency.p999 <= result.latency.max
    assert {"gateway.fuse", "gateway.total", "detection.inference", "detection.call"} <= result.stages.keys()
    assert {use.name for use in result.processes} == {"gateway", "detection"}
    assert all(use.resident_bytes_max >= use.resident_bytes > 2**20 for use in result.processes)
    assert result.cpu_seconds_per_frame
    answered = [grown for series, grown in result.counters.items() if "requests_total" in series and '"OK"' in series]
    assert sum(answered) == pytest.approx(result.scenes, abs=10)
    assert sum(each.due for each in result.intervals) <= result.due


def test_it_is_shown_as_tables(opened: tuple[Path, str]) -> None:
    for words in ("latency", "p99.9", "5 INVALID_ARGUMENT", "inference", "CPU ms/scene", "opened.html"):
        assert words in opened[1]


def test_streams_and_the_report_of_both(
    small_stack: Stack, pictures: Path, tmp_path: Path, opened: tuple[Path, str]
) -> None:
    streams, page = tmp_path / "streams.json", tmp_path / "report.html"
    status, printed = command(
        *("streams", "--address", small_stack.address, "--cameras", 3, "--rate", 10, "--deadline", 5),
        *("--source", pictures / "a.png", "--seconds", 1, "--warmup", 0, "--output", streams),
    )
    assert status == 0, printed
    _, result = read(streams)
    assert isinstance(result, Result)
    assert result.due == 30
    assert result.due == result.scenes + result.dropped + result.failed
    assert result.scenes > 0
    status, printed = command("report", opened[0], streams, "--output", page)
    assert status == 0, printed
    html = page.read_text()
    assert html.count("<svg") >= 5
    assert "3 streams of 10 frames/s" in html
    assert "open loop, 20 frames/s" in html
    # Nothing of it lies elsewhere.
    assert not re.findall(r'(?:src|href)="(?!#)', html)


def test_the_knee(small_stack: Stack, tmp_path: Path) -> None:
    film = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(picture())
    writer.release()
    output = tmp_path / "knee.json"
    status, printed = command(
        *("knee", "--address", small_stack.address, "--source", film, "--start", 10, "--within", 0.001),
        *("--seconds", 1, "--warmup", 0, "--output", output),
    )
    assert status == 0, printed
    # Nobody answers within a millisecond.
    assert "no load that was tried holds" in printed
    assert "breaks" in printed
    _, found = read(output)
    assert isinstance(found, Knee)
    assert found.steps[0].result.frames.count == 3
    assert output.with_suffix(".html").read_text().count("<svg") >= 4


def test_the_processes_of_a_stack_are_found_by_its_address(
    small_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "_PROJECT", tmp_path)
    state = tmp_path / ".cache" / "stack" / str(small_stack.ports.gateway) / "stack.json"
    state.parent.mkdir(parents=True)
    assert watched.stack_of(small_stack.address) == []
    state.write_text(json.dumps({"pid": os.getpid()}))
    assert watched.stack_of(small_stack.address) == [os.getpid()]
    assert watched.stack_of(small_stack.address.replace("127.0.0.1", "10.0.0.1")) == []
    # The id of one that was killed is another's by now.
    state.write_text(json.dumps({"pid": small_stack.supervisor.process("detection").pid}))
    assert watched.stack_of(small_stack.address) == []


# What a person may get wrong: the words that say so.
MISTAKES = [
    (["open", "--rate", "1", "--address", "localhost:1", "--timeout", "1"], "localhost:1: "),
    (["open", "--rate", "1", "--source", "no/such/film.mp4"], "no/such/film.mp4: no such file or folder"),
    (["open", "--rate", "1", "--source", "Makefile"], "cannot be read as a picture or a film"),
    (["open", "--rate", "1", "--source", "scenes:moon"], "scenes:moon: the scenes cannot be made: "),
    (["open", "--rate", "1", "--source", "scenes:moon"], "'moon' is not one of 'street'"),
    (["open", "--rate", "1", "--output", "/proc/none/result.json"], "No such file or directory: '/proc/none'"),
    (["report", "Makefile"], "Makefile: expected what perception loadtest writes"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_it_says_what_is_wrong(pictures: Path, arguments: list[str], words: str) -> None:
    source = [] if "--source" in arguments or "report" in arguments else ["--source", pictures / "a.png"]
    status, printed = command(*arguments, *source)
    assert status == 1
    assert words in printed
    assert "Traceback" not in printed
