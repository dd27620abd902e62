"""The `perception` command: puts together what the parts of the project offer.

A part is imported only when its command is called, so that `perception up` needs nothing of models/.
"""

from __future__ import annotations

import typer

from services.stack.cli import down, run, up

app = typer.Typer(help="Camera frames in, panoptic scenes out.", no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(up)
app.command()(down)
app.command()(run)

if __name__ == "__main__":
    app()
