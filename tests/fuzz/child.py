"""Fuzzes targets inside this process, under limits that end it: `python -m tests.fuzz.child --help`.

What it finds leaves the input in a folder: `<target>-<digest>` where an error was not a named one, or where a case took
too much memory or time; `<target>.last` is the case that was at work when the process died.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import resource
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated

import typer

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target

ROOM_BYTES = 4 * 2**30
"""Address space beyond what the process has at its start."""
LARGEST_GROWTH_MEGABYTES = 256.0
"""Resident memory, in units of 2**20 bytes, that one case may add at its peak."""
HANG_SECONDS = 60
"""A case that takes longer ends the process."""
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Report:
    """What came of a target's cases.

    refused: how often each named error was the answer. slowest_seconds: the most time of a processor that a case took.
    found: what went wrong, by the name of the input.
    """

    target: str
    cases: int = 0
    accepted: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    slowest_seconds: float = 0.0
    largest_growth_megabytes: float = 0.0
    found: dict[str, str] = field(default_factory=dict)


def generated(target: Target, seed: int) -> Iterator[bytes]:
    """Cases without end: its seeds as they are, then mutations of them; the same for the same seed."""
    seeds = list(target.seeds())
    yield from seeds
    random = Random(f"{target.name} {seed}")
    while True:
        yield mutated(seeds, target.tokens, random)


def attempt(target: Target, data: bytes, report: Report, findings: Path) -> None:
    """Runs one case and adds what came of it to the report."""
    (findings / f"{target.name}.last").write_bytes(data)
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    before = _memory("VmRSS", reset=True)
    started = time.process_time()
    problem = ""
    try:
        target.run(data)
        report.accepted += 1
    except target.refusals as error:
        name = type(error).__name__
        report.refused[name] = report.refused.get(name, 0) + 1
    except Exception as error:
        problem = "".join(traceback.format_exception(error, limit=-4))
    report.cases += 1
    report.slowest_seconds = max(report.slowest_seconds, time.process_time() - started)
    growth = _memory("VmHWM") - before
    report.largest_growth_megabytes = max(report.largest_growth_megabytes, growth)
    if not problem and growth > LARGEST_GROWTH_MEGABYTES:
        problem = f"took {growth:.0f} MiB"
    faulthandler.cancel_dump_traceback_later()
    if problem:
        name = f"{target.name}-{hashlib.sha256(data).hexdigest()[:12]}"
        (findings / name).write_bytes(data)
        report.found[name] = problem


def _memory(key: str, *, reset: bool = False) -> float:
    if reset:
        _CLEAR.write_text("5")  # the peak counts from here
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 2**10


def main(
    targets: Annotated[list[str], typer.Argument(help=f"Of {', '.join(target.name for target in TARGETS)}.")],
    findings: Annotated[Path, typer.Option(help="Folder for inputs that something is wrong with.")],
    seconds: Annotated[float, typer.Option(help="Time for each target.")] = 1e9,
    cases: Annotated[int, typer.Option(help="Cases for each target, at most.")] = 10**9,
    seed: Annotated[int, typer.Option(help="Of the mutations.")] = 0,
) -> None:
    """Fuzz targets and print a line of JSON for each."""
    findings.mkdir(parents=True, exist_ok=True)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    for target in TARGETS:
        if target.name not in targets:
            continue
        report = Report(target.name)
        end = time.monotonic() + seconds
        for data in generated(target, seed):
            attempt(target, data, report, findings)
            if report.cases >= cases or time.monotonic() > end or len(report.found) >= 20:
                break
        (findings / f"{target.name}.last").unlink()
        print(json.dumps(asdict(report)), flush=True)


if __name__ == "__main__":
    typer.run(main)
