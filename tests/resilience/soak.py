"""Runs the whole local system under load for long and sees whether anything grows: `make soak MINUTES=30`.

The load is 70 % of what the system was measured to take just before: half of it by two cameras' streams, half by single
calls. Memory, file descriptors, threads and shared memory of every process are sampled; a process of which one grows
for sure faster than its limit fails the run, and so do answers that are missing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from services.stack.layout import TASKS
from services.stack.session import StackOptions, running
from services.stack.supervisor import StackError, Supervisor
from tests.resilience.slopes import Slope, rises_throughout, slope
from tests.resilience.steady_load import SteadyLoad, capacity

LIMITS = {"resident MiB": 16.0, "descriptors": 8.0, "threads": 4.0, "/dev/shm MiB": 4.0}
"""How much of each a process may gain in an hour."""
SHARE = 0.7
_SAMPLE_SECONDS = 1.0
_LASTING = 0.5
"""Part of its limit by which a quantity must rise throughout a run, and not by a step or two, to be called growing."""
_CAPACITY_SECONDS = 20.0
_LEAST_ANSWERED = 0.99

console = Console(stderr=True)


@dataclass(frozen=True)
class Sample:
    """What each process had, by its name and the names in `LIMITS`. seconds: since the load began."""

    seconds: float
    processes: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Row:
    """The verdict on one quantity of one process."""

    process: str
    quantity: str
    mean: float
    slope: Slope
    goes_on: bool

    @property
    def grows(self) -> bool:
        """Whether it gains more than it may, for sure and all along."""
        return self.goes_on and self.slope.exceeds(LIMITS[self.quantity])


def judged(samples: Sequence[Sample]) -> list[Row]:
    """A verdict on each quantity of each process. Raises `ValueError` where a process is missing in a sample."""
    rows = []
    seconds = [sample.seconds for sample in samples]
    for process in samples[0].processes:
        if any(process not in sample.processes for sample in samples):
            raise ValueError(f"{process} was not there all the time")
        for quantity, limit in LIMITS.items():
            values = [sample.processes[process][quantity] for sample in samples]
            goes_on = rises_throughout(seconds, values, _LASTING * limit)
            rows.append(Row(process, quantity, sum(values) / len(values), slope(seconds, values), goes_on))
    return rows


def watched(supervisor: Supervisor) -> dict[str, psutil.Process]:
    """Every process of a stack by name, with the processes that they have started."""
    found = {}
    for name in sorted(supervisor.names):
        process = psutil.Process(supervisor.process(name).pid)
        found[name] = process
        for child in process.children(recursive=True):
            # One for each model, which is among its arguments.
            model = next((word for word in child.cmdline() if word.startswith(TASKS)), str(child.pid))
            found[f"{name} / {model}"] = child
    return found


def sampled(processes: dict[str, psutil.Process], seconds: float) -> Sample:
    """What the processes have now; one that is gone is left out."""
    found = {}
    for name, process in processes.items():
        try:
            found[name] = {
                "resident MiB": process.memory_info().rss / 2**20,
                "descriptors": float(process.num_fds()),
                "threads": float(process.num_threads()),
                "/dev/shm MiB": _shared_megabytes(process.pid),
            }
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
    return Sample(seconds, found)


def _shared_megabytes(pid: int) -> float:
    """Size of the regions of /dev/shm that a process has in its memory, each once, in units of 2**20 bytes."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "/dev/shm/" in line:
            first, last = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
            path = line.split(maxsplit=5)[5]
            sizes[path] = max(sizes.get(path, 0), last - first)
    return sum(sizes.values()) / 2**20


def _plot(samples: Sequence[Sample], rows: Sequence[Row], warm_up_seconds: float, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(LIMITS), 1, figsize=(10, 12), sharex=True, layout="constrained")
    minutes = [sample.seconds / 60 for sample in samples]
    grows = {(row.process, row.quantity) for row in rows if row.grows}
    for axis, (quantity, limit) in zip(axes, LIMITS.items(), strict=True):
        for process in samples[0].processes:
            values = [sample.processes[process][quantity] for sample in samples]
            change = [value - values[0] for value in values]
            width = 2.5 if (process, quantity) in grows else 1.0
            axis.plot(minutes, change, label=f"{process} ({values[0]:.0f})", linewidth=width)
        axis.axvspan(0, warm_up_seconds / 60, color="0.93")
        axis.set_ylabel(f"{quantity}, change")
        axis.set_title(f"{quantity}: may grow by {limit:g} an hour", loc="left", fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, title="process (at first)")
    axes[-1].set_xlabel("minutes since the load began; grey: warm-up, not judged")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _table(rows: Sequence[Row]) -> Table:
    headings = [f"{quantity}\nat most {limit:+g} an hour" for quantity, limit in LIMITS.items()]
    table = Table("process", *headings, title="mean, and growth an hour with 99 % confidence")
    cells: dict[str, list[str]] = {}
    for row in rows:
        said = f"{row.mean:.0f}, {row.slope.lowest:+.1f} … {row.slope.highest:+.1f}"
        cells.setdefault(row.process, []).append(f"[red]{said} grows[/]" if row.grows else said)
    for process, said_of_it in cells.items():
        table.add_row(process, *said_of_it)
    return table


def main(
    minutes: Annotated[float, typer.Option(help="Of load, the warm-up included; at least 2.")] = 30.0,
    profile: Annotated[str, typer.Option(help="Whose models.")] = "demo",
    engine: Annotated[str, typer.Option(help="auto, triton or onnxruntime.")] = "auto",
    port_base: Annotated[int, typer.Option(help="First of the stack's ports.")] = 50050,
    output: Annotated[Path, typer.Option(help="Folder for picture and samples.")] = Path("out/soak"),
) -> None:
    """Load the local system at 70 % of its capacity and see whether any of its processes grows."""
    if minutes < 2:
        raise typer.BadParameter(f"minutes: expected at least 2, found {minutes}")
    output.mkdir(parents=True, exist_ok=True)
    options = StackOptions(profile, engine, port_base)  # type: ignore[arg-type]
    warm_up = min(300.0, minutes * 60 / 4)
    with running(options, console) as supervisor:
        address = f"127.0.0.1:{port_base}"
        with console.status(f"measuring what it takes, {_CAPACITY_SECONDS:.0f} s"):
            most = capacity(address, _CAPACITY_SECONDS)
        if not most:
            raise StackError("it answered nothing while its capacity was measured: is the machine this busy?")
        console.print(f"takes {most:.1f} frames a second; the load is {SHARE * most:.1f}")
        processes = watched(supervisor)
        samples: list[Sample] = []
        with Progress(console=console) as progress, SteadyLoad(address, SHARE * most) as load:
            bar = progress.add_task("soaking", total=minutes * 60)
            began = time.monotonic()
            while (seconds := time.monotonic() - began) < minutes * 60:
                samples.append(sampled(processes, seconds))
                progress.update(bar, completed=seconds, description=f"soaking, {load.answered} answered")
                time.sleep(max(0.0, began + len(samples) * _SAMPLE_SECONDS - time.monotonic()))
    (output / "samples.json").write_text(json.dumps([asdict(sample) for sample in samples]))
    gone = [process for process in samples[0].processes if process not in samples[-1].processes]
    if gone:
        console.print(f"[red]no verdict: {', '.join(gone)} ended while it was watched")
        raise typer.Exit(1)
    rows = judged([sample for sample in samples if sample.seconds >= warm_up])
    _plot(samples, rows, warm_up, output / "soak.png")
    console.print(_table(rows))
    failures = ", ".join(f"{number} {code}" for code, number in load.failures.items())
    console.print(f"{load.answered} answered, {load.dropped} dropped by the streams, {load.failed} failed {failures}")
    console.print(f"{output / 'soak.png'}, {output / 'samples.json'}")
    growing = [f"{row.process} grows in {row.quantity}" for row in rows if row.grows]
    is_answered = load.answered >= _LEAST_ANSWERED * (load.answered + load.failed)
    wrong = growing + ([] if is_answered else [f"less than {_LEAST_ANSWERED:.0%} of the frames were answered"])
    console.print(f"[red]{'; '.join(wrong)}" if wrong else "[green]nothing grows, and the frames were answered")
    if wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
