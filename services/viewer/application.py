"""The viewer's HTTP: the page, its two sockets, dropped pictures, health."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web

from services.runtime import metrics
from services.viewer.agents import CameraAgents
from services.viewer.login import LONGEST_WORD, PAGE, Login
from services.viewer.pictures import Pictures
from services.viewer.relay import Mailbox, Message, Relays, Upstream
from services.viewer.settings import ViewerSettings

_HEARTBEAT_SECONDS = 10.0
"""A browser that does not answer a ping is gone."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Nothing to other sites; with no-referrer even a form of our own would come from the origin "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # A new version of the viewer is on the page with the next reload.
    "Cache-Control": "no-cache",
}

_FILES = {path.name: path for path in PAGE.iterdir()}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Viewer:
    """What the requests share. Call `close` in the end."""

    def __init__(self, settings: ViewerSettings) -> None:
        self._settings = settings
        self._agents = CameraAgents(settings)
        self._pictures = Pictures(settings)
        self._relays = Relays()
        self._sockets: set[web.WebSocketResponse] = set()
        self._login = Login(settings) if settings.authentication == "required" else None

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(client_max_size=self._settings.max_image_bytes, middlewares=[_readable])
        if self._login is None:
            application.router.add_get("/", _index)
        else:
            application.middlewares.append(self._login.guard)
            application.router.add_get("/", self._login.index)
            application.router.add_get("/login", self._login.form)
            application.router.add_post("/login", self._own_pages_only(self._login.sign_in))
            application.router.add_post("/logout", self._own_pages_only(self._login.sign_out))
        application.router.add_get("/healthz", _health)
        application.router.add_get("/cameras", self._own_pages_only(self._list))
        application.router.add_get("/camera", self._own_pages_only(self._watch))
        application.router.add_post("/perceive", self._own_pages_only(self._pictures.perceive))
        application.router.add_get("/page/{name}", _file)
        application.on_response_prepare.append(_protect)
        application.on_shutdown.append(self._hang_up)
        return application

    async def close(self) -> None:
        """Closes the connections to the agents and the gateway."""
        await self._agents.close()
        await self._pictures.close()

    def _own_pages_only(self, handler: Handler) -> Handler:
        """Refuses what a page of another origin asks for in the name of whoever looks at it."""

        @functools.wraps(handler)
        async def checked(request: web.Request) -> web.StreamResponse:
            origin = request.headers.get("Origin")
            if not (origin is None or origin in self._settings.other_origins or _host(origin) == request.host):
                raise web.HTTPForbidden(text=f"origin {origin} is not allowed (ALLOWED_ORIGINS)\n")
            return await handler(request)

        return checked

    async def _list(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, "cameras", self._agents.list)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        address, name = request.query.get("agent", ""), request.query.get("camera", "")
        if address not in self._agents:
            raise web.HTTPNotFound(text=f"no agent {address!r} (CAMERA_AGENTS)\n")
        return await self._serve(request, (address, name), lambda: self._agents[address].watch(name))

    async def _serve(self, request: web.Request, key: str | tuple[str, str], upstream: Upstream) -> web.StreamResponse:
        if len(self._sockets) >= self._settings.max_pages:
            metrics.LIMIT_BREACHES.labels("max_pages").inc()
            raise web.HTTPServiceUnavailable(text=f"{len(self._sockets)} pages are connected already (MAX_PAGES)\n")
        # Uncompressed: pictures and maps are compressed already.
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT_SECONDS, compress=False, max_msg_size=LONGEST_WORD)
        self._sockets.add(socket)
        metrics.VIEWER_PAGES.inc()
        watching_over = asyncio.create_task(self._login.watch_over(request, socket)) if self._login else None
        try:
            await socket.prepare(request)
            with self._relays.watch(key, upstream) as mailbox:
                await _converse(socket, mailbox)
        finally:
            if watching_over:
                watching_over.cancel()
            self._sockets.discard(socket)
            metrics.VIEWER_PAGES.dec()
        return socket

    async def _hang_up(self, _: web.Application) -> None:
        closing = (socket.close(code=WSCloseCode.GOING_AWAY, message=b"the viewer stops") for socket in self._sockets)
        await asyncio.gather(*closing)


async def _converse(socket: web.WebSocketResponse, mailbox: Mailbox) -> None:
    """Sends what is new; every message of the page says that it has drawn one."""
    sending = asyncio.create_task(_send(socket, mailbox))
    try:
        async for _ in socket:
            mailbox.drawn()
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _send(socket: web.WebSocketResponse, mailbox: Mailbox) -> None:
    while True:
        message = await mailbox.take()
        try:
            await _send_one(socket, message)
        except ConnectionError:  # the page went away; reading from the socket ends as well
            return


async def _send_one(socket: web.WebSocketResponse, message: Message) -> None:
    if isinstance(message.data, str):
        await socket.send_str(message.data)
    else:
        await socket.send_bytes(message.data)
    if message.kind == "scene":
        metrics.VIEWER_SCENES.labels("sent").inc()


@web.middleware
async def _readable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses headers that are no text, which no answer could repeat."""
    try:
        for _, value in request.raw_headers:
            value.decode()
    except UnicodeDecodeError:
        raise web.HTTPBadRequest(text="expected headers in UTF-8\n") from None
    return await handler(request)


async def _index(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html")


async def _file(request: web.Request) -> web.FileResponse:
    path = _FILES.get(request.match_info["name"])
    if path is None:
        raise web.HTTPNotFound
    return web.FileResponse(path)


async def _health(_: web.Request) -> web.Response:
    return web.json_response({"status": "SERVING"})


def _host(origin: str) -> str | None:
    """Host and port of an origin; none of what is no URL."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


async def _protect(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
