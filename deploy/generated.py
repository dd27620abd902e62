"""Files that are made and committed: writes them, or says which are not up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer


def outdated(documents: Mapping[Path, str]) -> list[Path]:
    """The files that do not hold what they must."""
    return [
        path for path, content in documents.items() if not path.is_file() or path.read_text(encoding="utf-8") != content
    ]


def command(program: str, purpose: str, documents: Callable[[], Mapping[Path, str]]) -> None:
    """Runs the program that makes these files. program: how it is called, for who has to call it."""

    def main(
        check: Annotated[
            bool, typer.Option("--check", help="Write nothing; exit status 1 where a file is not up to date.")
        ] = False,
    ) -> None:
        made = documents()
        for path in outdated(made):
            if check:
                typer.echo(f"{path}: not up to date: run {program}", err=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(made[path], encoding="utf-8")
                typer.echo(f"wrote {path}")
        if check and outdated(made):
            raise typer.Exit(1)

    main.__doc__ = purpose
    typer.run(main)
