"""The command that evaluates a running system."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, get_args

import typer
from perception.caller import Caller
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from models.catalog.schema import CatalogError, Task
from models.datasets.sample import DatasetError
from models.evaluation.plan import Plan, Whole, load_plan
from models.evaluation.result import EvaluationError

console = Console(emoji=False)


def evaluate(
    profile: Annotated[str, typer.Argument(help="Whose evaluation plan to follow: a file of models/evaluation/plans.")],
    gateway: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Measure the whole system through its gateway.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=HOST:PORT",
            help="Measure one model through its task's service; again for each task, and for models to compare.",
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="The results go into the folder of the profile's name in here.")] = Path(
        "out/evaluation"
    ),
) -> None:
    """Measure a running system against known truth, and fail where it is worse than expected.

    Writes metrics.json, report.md, plots and the worst frames. Exit status: 0 as good as the catalogue expects or
    better, 1 worse or not measurable, 2 wrong usage.

    TLS and the token for the gateway are set by environment variables: docs/security.md.
    """
    # Reading --help needs neither pycocotools nor matplotlib.
    from models.evaluation.report import REPORT, clear_report, metrics_tables, write_report
    from models.evaluation.run import run_plan

    try:
        plan = load_plan(profile)
        addresses = _addresses(plan, gateway, task or [])
        caller = _caller()
        folder = output / plan.name
        clear_report(folder)
        with Progress(
            TextColumn("{task.description:<42}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as progress:
            evaluations = run_plan(plan, addresses, folder, _Bars(progress), caller=caller)
    except (CatalogError, DatasetError, _UsageError, OSError) as error:
        console.print(f"[red]{escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from None
    except EvaluationError as error:
        console.print(f"[red]{escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    write_report(plan.name, evaluations, folder)
    console.print(metrics_tables(evaluations))
    shortfalls = [shortfall for each in evaluations for shortfall in each.shortfalls]
    for shortfall in shortfalls:
        console.print(f"[red]worse than expected: {escape(shortfall)}", soft_wrap=True)
    console.print(f"report: {folder / REPORT}", soft_wrap=True)
    raise typer.Exit(1 if shortfalls else 0)


class _UsageError(ValueError):
    """The options do not say what to measure."""


class _Bars:
    """One progress bar for each subject that is measured."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def __call__(self, title: str, done: int, total: int) -> None:
        if title not in self._bars:
            self._bars[title] = self._progress.add_task(title, total=total)
        self._progress.update(self._bars[title], completed=done)


def _caller() -> Caller:
    try:
        return Caller.of_environment()
    except ValueError as error:
        raise _UsageError(str(error)) from None


def _addresses(plan: Plan, gateway: str | None, tasks: list[str]) -> dict[str, list[str]]:
    """Addresses by subject; those that the plan does not measure are named and left out.

    Raises `_UsageError` for what is no address of a task, and where nothing is left to measure.
    """
    addresses: dict[str, list[str]] = defaultdict(list)
    for option in tasks:
        name, _, address = option.partition("=")
        if name not in get_args(Task) or not address:
            raise _UsageError(f"--task: expected one of {', '.join(get_args(Task))}, then =HOST:PORT; found {option!r}")
        addresses[name].append(address)
    planned = {step.subject for step in plan.steps}
    if gateway is not None:
        addresses |= {subject: [gateway] for subject in planned.intersection(get_args(Whole)) or {"system"}}
    for subject in sorted(addresses.keys() - planned):
        console.print(f"{subject}: plan {plan.name!r} has no data set for it")
    if not planned & addresses.keys():
        options = ("--gateway" if step.of_whole else f"--task {step.subject}=…" for step in plan.steps)
        known = ", ".join(dict.fromkeys(options))
        raise _UsageError(f"plan {plan.name!r}: expected one or more of {known}; found none of them")
    return addresses
