"""The life of the viewer: start, metrics, drain."""

from __future__ import annotations

import asyncio
import logging
import signal

import uvloop
from prometheus_client import start_http_server

from services.runtime import logs, tracing
from services.runtime.tls import WebServerTLS
from services.viewer.application import Viewer
from services.viewer.connections import listen
from services.viewer.settings import ViewerSettings

log = logging.getLogger(__name__)


def run(settings: ViewerSettings) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Ends the program with status 1 where a port is taken."""
    logs.set_up("viewer", settings.log_level)
    tracing.start("viewer")
    uvloop.run(_serve(settings))


async def _serve(settings: ViewerSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    viewer = Viewer(settings)
    tls = _tls(settings)
    try:
        server, runner = await listen(viewer.application(), settings, tls.context if tls else None)
    except OSError as error:
        raise SystemExit(f"PORT: cannot listen on {settings.host}:{settings.port}: {error}") from None
    try:
        metrics_server, _ = start_http_server(settings.metrics_port, settings.host)
    except OSError as error:
        raise SystemExit(f"METRICS_PORT: cannot listen on {settings.host}:{settings.metrics_port}: {error}") from None
    port = server.sockets[0].getsockname()[1]
    address = f"{'https' if tls else 'http'}://{settings.host}:{port}"
    log.info("serving", extra={"address": address, "port": port, "metrics_port": metrics_server.server_port})

    following = asyncio.create_task(tls.follow()) if tls else None

    await stop.wait()
    log.info("draining", extra={"seconds": settings.drain_seconds})
    server.close()
    await runner.cleanup()
    if following:
        following.cancel()
    await viewer.close()
    tracing.stop()
    metrics_server.shutdown()
    log.info("stopped")


def _tls(settings: ViewerSettings) -> WebServerTLS | None:
    if settings.tls_as_server is None:
        if settings.authentication == "required":
            log.warning("people's tokens come in plain text: TLS_CERTIFICATE_FILE is not set")
        return None
    return WebServerTLS(settings.tls_as_server, require_clients=settings.requires_certificates)
