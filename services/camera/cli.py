"""`perception camera`: live cameras into the system."""

from __future__ import annotations

import asyncio
import math
import signal
from pathlib import Path
from typing import Annotated

import grpc
import typer
from perception.connections import open_channel
from perception.v1 import camera_pb2, camera_pb2_grpc
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from services.camera.agent import Agent
from services.camera.check import check_camera
from services.camera.report import camera_line
from services.camera.servicer import CameraServicer
from services.camera.settings import AgentEnvironment, AgentSettings, SettingsError, read_settings
from services.runtime.server import Served, Service
from services.runtime.server import run as serve
from services.runtime.settings import ServiceSettings, make_settings

app = typer.Typer(help="Cameras: live streams into the system.", no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

Config = Annotated[Path, typer.Argument(help="The agent's file; docs/cameras.md describes every key.")]

_DRAIN_SECONDS = 5.0


@app.command()
def run(
    config: Config,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Stop after so many seconds.")] = None,
) -> None:
    """Run the cameras of a file, until Ctrl-C, SIGTERM, or the end of all sources. Logs go to standard error.

    TLS and the token for the gateway are set by environment variables: docs/security.md.
    """
    settings = _read(config)
    environment = make_settings(AgentEnvironment, "perception camera")

    async def build() -> Service:
        try:
            agent = Agent(settings, environment)
        except SettingsError as error:
            raise SystemExit(f"{config}: {error}") from None
        servicer = CameraServicer(agent.cameras)
        agent.start()
        ending = asyncio.create_task(_end_with(agent, seconds))

        async def ready() -> bool:
            return True  # a camera that is down is no reason to restart or to avoid the agent

        async def close() -> None:
            ending.cancel()
            await agent.close()

        served = Served(
            "perception.v1.CameraService",
            lambda server: camera_pb2_grpc.add_CameraServiceServicer_to_server(servicer, server),
        )
        return Service([served], ready, close, drain=agent.stop)

    serve(
        "camera",
        # Validated as it stands: nothing else of the environment slips in.
        ServiceSettings.model_validate(
            settings.model_dump(include={"host", "port", "metrics_port", "log_level"})
            | environment.model_dump()
            # There is one agent to a camera: whoever watches need not look for others.
            | {"drain_seconds": _DRAIN_SECONDS, "max_connection_age_seconds": math.inf}
        ),
        build,
    )


async def _end_with(agent: Agent, seconds: float | None) -> None:
    """Ends this process, as an orchestrator would, once all cameras have ended or the time is over."""
    await asyncio.wait((asyncio.ensure_future(agent.wait()),), timeout=seconds)
    signal.raise_signal(signal.SIGTERM)


@app.command()
def check(config: Config) -> None:
    """Check a file and open each of its sources for a moment: what they are, their size, frames per second.

    Exit status 1 where a source gives no frame, 2 where the file is wrong.
    """
    settings = _read(config)
    table = Table(title=str(config))
    for column in ("camera", "kind", "codec", "size", "sent as", "frames/s", "delay ms", ""):
        table.add_column(column, overflow="fold")

    async def look() -> bool:
        with console.status(f"opening {len(settings.cameras)} sources"):
            checked = await asyncio.gather(*map(check_camera, settings.cameras))
        for result in checked:
            table.add_row(*result.row())
        return all(result.works for result in checked)

    try:
        works = asyncio.run(look())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    console.print(table)
    raise typer.Exit(0 if works else 1)


@app.command()
def watch(
    address: Annotated[str, typer.Argument(help="The agent's gRPC address, such as localhost:50060.")],
    camera: Annotated[str, typer.Argument(help="The camera's name.")],
) -> None:
    """Show what a camera sees, as a line that changes; on no terminal a line for each news."""
    environment = make_settings(AgentEnvironment, "perception camera")
    with open_channel(address, (), environment.tls_as_caller) as channel:
        try:
            stream = camera_pb2_grpc.CameraServiceStub(channel).WatchCamera(
                camera_pb2.WatchCameraRequest(camera=camera)
            )
            with Live(console=console, auto_refresh=False) as live:
                for news in stream:
                    line = camera_line(news)
                    if console.is_terminal:
                        live.update(line, refresh=True)
                    else:
                        console.print(line, soft_wrap=True)
        except grpc.RpcError as error:
            raise _exit(f"{address}: {error.code().name}: {error.details()}") from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _read(config: Path) -> AgentSettings:
    try:
        return read_settings(config)
    except SettingsError as error:
        raise _exit(str(error), 2) from None


def _exit(message: str, status: int = 1) -> typer.Exit:
    errors.print(f"[red]{escape(message)}", soft_wrap=True)
    return typer.Exit(status)


if __name__ == "__main__":
    app()
