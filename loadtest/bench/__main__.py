"""`python -m loadtest.bench`: measures the parts one after another and makes docs/benchmarks.md of what they found."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loadtest.bench.document import write_document
from loadtest.bench.parts import PARTS
from services.stack.layout import PROJECT

PartName = StrEnum("PartName", {name.upper(): name for name in PARTS})  # type: ignore[misc]  # made of the table


def main(
    only: Annotated[list[PartName] | None, typer.Option(help="A part to measure; all where none is named.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer and shorter rounds: minutes instead of half an hour.")
    ] = False,
    output: Annotated[Path, typer.Option(help="Where benchmarks.md and the folder benchmarks go.")] = PROJECT / "docs",
    port_base: Annotated[int, typer.Option(min=1024, max=65000, help="The first of 100 free ports.")] = 50050,
) -> None:
    """Measure this system against what it is built of, in pairs, and write down what was found.

    Each part runs in a process of its own. What a part found replaces what it found before; other parts' findings
    stay. Exit status 1 where a part could not be measured.
    """
    console = Console()
    folder = (output / "benchmarks").resolve()
    failed = []
    for part in map(str, only or PARTS):
        console.print(f"[bold]{part}[/]: {PARTS[part].title.lower()}")
        command = [sys.executable, "-m", "loadtest.bench.measure", part, str(folder), f"--port-base={port_base}"]
        done = subprocess.run(
            [*command, *(["--quick"] if quick else [])], cwd=PROJECT, env=PARTS[part].environment(), check=False
        )
        if done.returncode:
            failed.append(part)
    console.print(f"wrote {write_document(output)}")
    if failed:
        console.print(f"[red]not measured: {', '.join(failed)}")
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
