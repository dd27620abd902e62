"""Connections to the viewer: how many there may be, for how long, and what is said of those that bring no HTTP."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from services.runtime import metrics
from services.viewer.settings import ViewerSettings

_LINGERING_SECONDS = 2.0
"""For who is answered before all of a body came, to read that answer."""


async def listen(
    application: web.Application, settings: ViewerSettings, context: ssl.SSLContext | None
) -> tuple[asyncio.Server, web.AppRunner]:
    """Serves an application: close the first to take no more connections, clean the second up to end those there are.

    Raises `OSError` where the port cannot be had.
    """
    runner = web.AppRunner(
        application,
        access_log=None,
        shutdown_timeout=settings.drain_seconds,
        keepalive_timeout=settings.receive_seconds,
        lingering_time=_LINGERING_SECONDS,
        # Nobody's body is unpacked, so that none grows larger than it was sent.
        auto_decompress=False,
    )
    await runner.setup()
    logging.getLogger("aiohttp.server").addFilter(_is_of_interest)
    server = await asyncio.get_running_loop().create_server(
        _Door(cast(web.Server, runner.server), settings.max_connections),
        settings.host,
        settings.port,
        ssl=context,
        ssl_handshake_timeout=settings.receive_seconds if context else None,
    )
    return server, runner


class _Door:
    """Makes what answers a connection: the server, as long as it has not too many."""

    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most

    def __call__(self) -> asyncio.Protocol:
        return self._server() if len(self._server.connections) < self._most else _Refusal(self._most)


class _Refusal(asyncio.Protocol):
    """Answers whatever it is asked that there is no room."""

    def __init__(self, most: int) -> None:
        self._reason = f"{most} connections are open already (MAX_CONNECTIONS)\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        metrics.LIMIT_BREACHES.labels("max_connections").inc()
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(self._reason)}\r\nConnection: close\r\n\r\n"
        writing = cast(asyncio.Transport, transport)
        writing.write((head + self._reason).encode())
        writing.close()


def _is_of_interest(record: logging.LogRecord) -> bool:
    """Nobody need know that a browser went away.

    What is no HTTP is its sender's mistake: no stack trace is told, and none of its words, which may be a token.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ConnectionError):
        return False
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = "refused what is no HTTP: %s", (type(error).__name__,)
        record.exc_info = None
    return True
