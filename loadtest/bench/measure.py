"""Measures one part in this process: `python -m loadtest.bench.measure fusion docs/benchmarks`."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Annotated

import grpc
import typer
from perception import PerceptionError
from rich.console import Console
from rich.markup import escape
from tritonclient.utils import InferenceServerException

from loadtest.bench.cameras import StreamFailed
from loadtest.bench.machine import MachineWatch
from loadtest.bench.parts import PARTS
from loadtest.bench.result import Findings, Result
from loadtest.bench.run import Run
from loadtest.bench.worker import WorkerError
from loadtest.client_processes import LoadError
from loadtest.sources import SourceError
from services.stack.supervisor import StackError

_FAILURES = (
    StackError,
    WorkerError,
    StreamFailed,
    LoadError,
    SourceError,
    PerceptionError,
    grpc.RpcError,
    InferenceServerException,
)
"""What a system that does not come up, or does not answer, makes a part end with."""


def main(
    part: Annotated[str, typer.Argument(help=f"One of {', '.join(PARTS)}.")],
    folder: Annotated[Path, typer.Argument(help="Where <part>.json goes.")],
    quick: Annotated[bool, typer.Option(help="Fewer and shorter rounds.")] = False,
    port_base: Annotated[int, typer.Option(help="The first of 100 free ports.")] = 50050,
) -> None:
    """Measure one part of the benchmark and keep what was found as JSON."""
    console = Console()
    watch = MachineWatch()
    started, clock = datetime.now(UTC), time.monotonic()
    try:
        findings: Findings = import_module(f"loadtest.bench.{part}").measure(Run(quick, port_base, console))
    except _FAILURES as error:
        console.print(f"[red]{part}: {escape(str(error))}")
        sys.exit(1)
    Result(
        part=part,
        command=f"make bench ONLY={part}" + " QUICK=1" * quick,
        quick=quick,
        started=started.strftime("%Y-%m-%d %H:%M UTC"),
        seconds=round(time.monotonic() - clock, 1),
        machine=watch.machine(),
        findings=findings,
    ).write(folder)


if __name__ == "__main__":
    typer.run(main)
