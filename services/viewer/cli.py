"""`perception viewer`: the page, from the command line."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.runtime.settings import make_settings
from services.viewer.server import run
from services.viewer.settings import ViewerSettings

app = typer.Typer(help="The page on which a person watches cameras.", invoke_without_command=True)


@app.callback()
def viewer(
    agents: Annotated[str, typer.Option(help="Addresses of the camera agents, separated by commas.")] = (
        "localhost:50060"
    ),
    gateway: Annotated[str, typer.Option(help="Address of the gateway, which perceives dropped pictures.")] = (
        "localhost:50050"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP port of the page.")] = 8080,
) -> None:
    """Serve the page until Ctrl+C. The rest is set by environment variables, see python -m services.viewer --help."""
    told: dict[str, Any] = {"camera_agents": agents, "gateway_url": gateway, "host": host, "port": port}
    run(make_settings(ViewerSettings, "perception viewer", **told))
