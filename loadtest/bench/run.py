"""How a part runs: how thoroughly, on which ports, and where its progress shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.bench.pairs import Measured, Samples, interleave, runs_of

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Run:
    """One run of a part. quick: fewer and shorter rounds. port_base: the first of 100 ports that are its own."""

    quick: bool
    port_base: int
    console: Console

    def pick(self, thorough: Choice, quick: Choice) -> Choice:
        """What holds for this run."""
        return quick if self.quick else thorough

    def interleave(self, what: str, arms: Mapping[str, Callable[[], Measured]], rounds: int) -> Samples:
        """See `pairs.interleave`; shows its progress under the name of what is measured."""
        with self.progress(what, runs_of(arms, rounds)) as advance:
            return interleave(arms, rounds, advance)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """A bar; calling what it gives moves it by one of `total`."""
        columns = (TextColumn("  {task.description:<46}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(what, total=total)
            yield lambda: progress.advance(task)
