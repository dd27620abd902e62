"""Fuzzes everything that takes bytes from others: `make fuzz SECONDS=600`, or `python -m tests.fuzz --help`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from itertools import count, takewhile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.fuzz.rpc import RPCS, RpcReport, System, attack
from tests.fuzz.targets import PROJECT, TARGETS

FINDINGS = PROJECT / ".cache" / "fuzz"
_RPC_SHARE = 0.4
"""Of the time, for the RPCs of running processes; the targets inside of one process share the rest."""

console = Console(stderr=True)


def main(
    seconds: Annotated[float, typer.Option(help="For all together.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Another one makes other cases; default: the clock's.")] = 0,
) -> None:
    """Fuzz decoders, settings and every RPC of real processes; inputs that break something stay in .cache/fuzz."""
    chosen = seed or int(time.time())
    table = Table("what", "cases", "answered", "refused", "slowest s", "largest MiB", "found", title=f"seed {chosen}")
    problems: dict[str, str] = {}
    for target in TARGETS:
        with console.status(f"fuzzing {target.name}"):
            row, found = _in_child(target.name, seconds * (1 - _RPC_SHARE) / len(TARGETS), chosen)
        table.add_row(*row)
        problems |= found
    with console.status(f"fuzzing {len(RPCS)} RPCs of running processes"), tempfile.TemporaryDirectory() as folder:
        row, found = _rpcs(Path(folder), seconds * _RPC_SHARE, chosen)
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


def _rpcs(folder: Path, seconds: float, seed: int) -> tuple[list[str], dict[str, str]]:
    with System(folder) as system:
        before = system.megabytes()
        end = time.monotonic() + seconds
        report: RpcReport = attack(system, takewhile(lambda _: time.monotonic() < end, count()), seed)
        growth = max(after - before[name] for name, after in system.megabytes().items())
    refused = ", ".join(f"{number} {code}" for code, number in report.codes.items() if code != "OK")
    row = ["RPCs", f"{report.calls}", f"{report.codes.get('OK', 0)}", refused, "-", f"{growth:.0f}"]
    return [*row, f"{len(report.found)}"], {f"rpc {number}": text for number, text in enumerate(report.found)}


if __name__ == "__main__":
    typer.run(main)
