"""Which process `perception down` stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

from services.stack.cli import _supervisor
from services.stack.layout import PROJECT
from tests.support.service import eventually

ANNOUNCES = """
    import sys, time
    from pathlib import Path
    from services.stack import cli
    cli._state = lambda options: Path(sys.argv[1])
    with cli._announcement(cli.StackOptions("demo", "auto", 50050)) as announce:
        announce()
        print("announced", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def announcing(state: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(ANNOUNCES), str(state), str(seconds)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "announced\n"
    return process


def test_a_stack_that_serves_is_found_and_one_that_was_killed_is_not(tmp_path: Path) -> None:
    state = tmp_path / "stack.json"
    assert _supervisor(state) is None
    with announcing(state, 600) as process:
        assert _supervisor(state) == process.pid
        process.kill()
        process.wait()
        assert state.is_file(), "a killed one cannot clear its file away"
        assert _supervisor(state) is None
        assert not state.exists()


def test_a_stack_that_ends_clears_its_file_away(tmp_path: Path) -> None:
    state = tmp_path / "stack.json"
    with announcing(state, 0.2) as process:
        eventually(lambda: _supervisor(state) is None)
        assert process.wait(20) == 0
    assert not state.exists()


def test_a_process_that_took_over_the_id_of_a_killed_one_is_left_alone(tmp_path: Path) -> None:
    state = tmp_path / "stack.json"
    state.write_text(json.dumps({"pid": os.getpid(), "profile": "demo"}))
    assert _supervisor(state) is None
