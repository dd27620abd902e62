"""Fuzzes everything that takes bytes from others: `make fuzz SECONDS=600`, or `python -m tests.fuzz --help`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.fuzz import rpc, web
from tests.fuzz.rpc import RPCS, AttackReport, System
from tests.fuzz.targets import PROJECT, TARGETS
from tests.fuzz.web import Viewers

FINDINGS = PROJECT / ".cache" / "fuzz"
_RPC_SHARE, _WEB_SHARE = 0.3, 0.2
"""Of the time, for the RPCs and the page of running processes; the targets inside of one process share the rest."""

console = Console(stderr=True)


def main(
    seconds: Annotated[float, typer.Option(help="For all together.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Another one makes other cases; default: the clock's.")] = 0,
) -> None:
    """Fuzz decoders, settings, every RPC and the page of real processes; what breaks something stays in .cache/fuzz."""
    chosen = seed or int(time.time())
    table = Table("what", "cases", "answered", "refused", "slowest s", "largest MiB", "found", title=f"seed {chosen}")
    problems: dict[str, str] = {}
    for target in TARGETS:
        with console.status(f"fuzzing {target.name}"):
            row, found = _in_child(target.name, seconds * (1 - _RPC_SHARE - _WEB_SHARE) / len(TARGETS), chosen)
        table.add_row(*row)
        problems |= found
    with tempfile.TemporaryDirectory() as folder, System(Path(folder)) as system:
        with console.status(f"fuzzing {len(RPCS)} RPCs of running processes"):
            row, found = _rpcs(system, seconds * _RPC_SHARE, chosen)
        table.add_row(*row)
        problems |= found
        with console.status("fuzzing the viewer"):
            row, found = _web(system, Path(folder), seconds * _WEB_SHARE, chosen)
        table.add_row(*row)
        problems |= found
    console.print(table)
    for name, problem in problems.items():
        console.print(f"{name}: {problem.strip()}", markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)


def _in_child(name: str, seconds: float, seed: int) -> tuple[list[str], dict[str, str]]:
    """A row of the table, and what was found by the name of its input."""
    options = [f"--findings={FINDINGS}", f"--seconds={seconds}", f"--seed={seed}"]
    command = [sys.executable, "-m", "tests.fuzz.child", name, *options]
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if ran.returncode:
        died = f"{FINDINGS / name}.last: the process ended with {ran.returncode}: {ran.stderr[-2000:]}"
        return [name, "-", "-", "-", "-", "-", "1"], {name: died}
    said = json.loads(ran.stdout)
    refused = ", ".join(f"{count} {error}" for error, count in said["refused"].items())
    measured = [f"{said['slowest_seconds']:.2f}", f"{said['largest_growth_megabytes']:.0f}"]
    return [name, f"{said['cases']}", f"{said['accepted']}", refused, *measured, f"{len(said['found'])}"], said["found"]


def _rpcs(system: System, seconds: float, seed: int) -> tuple[list[str], dict[str, str]]:
    before = system.megabytes()
    report = rpc.attack(system, _until(seconds), seed)
    growth = max(after - before[name] for name, after in system.megabytes().items())
    return _row("RPCs", report, "OK", growth)


def _web(system: System, folder: Path, seconds: float, seed: int) -> tuple[list[str], dict[str, str]]:
    with Viewers(system, folder) as viewers:
        before = viewers.megabytes()
        report = asyncio.run(web.attack(viewers, _until(seconds), seed))
        growth = max(after - first for first, after in zip(before, viewers.megabytes(), strict=True))
    return _row("page", report, "200", growth)


def _until(seconds: float) -> Iterator[int]:
    end = time.monotonic() + seconds
    return takewhile(lambda _: time.monotonic() < end, count())


def _row(name: str, report: AttackReport, answered: str, growth: float) -> tuple[list[str], dict[str, str]]:
    refused = ", ".join(f"{number} {code}" for code, number in report.codes.items() if code != answered)
    row = [name, f"{report.calls}", f"{report.codes.get(answered, 0)}", refused, "-", f"{growth:.0f}"]
    return [*row, f"{len(report.found)}"], {f"{name} {number}": text for number, text in enumerate(report.found)}


if __name__ == "__main__":
    typer.run(main)
