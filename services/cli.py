"""The `perception` command: puts together what the installed parts of the project offer.

`up`, `status`, `down`, `run` and `evaluate` are the stack's. Every other part announces a group of commands as an entry
point in pyproject.toml, so that no part has to know of another.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from services.stack.cli import down, evaluate, run, status, up

app = typer.Typer(help="Camera frames in, panoptic scenes out.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(up)
app.command()(status)
app.command()(down)
app.command()(run)
app.command()(evaluate)
for part in entry_points(group="perception.commands"):
    app.add_typer(part.load(), name=part.name)

if __name__ == "__main__":
    app()
