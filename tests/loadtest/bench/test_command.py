"""`python -m loadtest.bench`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.bench.document import read_results

# A busy machine takes its time; an idle one some seconds.
pytestmark = pytest.mark.timeout(300)


def bench(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loadtest.bench", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def test_a_part_is_measured_and_written_down(tmp_path: Path) -> None:
    done = bench("--only", "codecs", "--quick", "--output", tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    result = read_results(tmp_path / "benchmarks")["codecs"]
    assert result.quick
    assert result.command == "make bench ONLY=codecs QUICK=1"
    assert "## Masks and maps as bytes" in (tmp_path / "benchmarks.md").read_text()
    assert (tmp_path / "benchmarks" / "codecs.svg").is_file()


def test_a_part_that_cannot_run_here_says_why(tmp_path: Path) -> None:
    done = bench("--only", "wire", "--quick", "--output", tmp_path, TRITON_ENVIRONMENT=str(tmp_path / "nowhere"))

    assert done.returncode == 1
    assert "holds no Python environment" in " ".join(done.stdout.split())
    assert "not measured: wire" in done.stdout
    assert (tmp_path / "benchmarks.md").is_file()
