"""Signing in: a person shows a token once, and the browser from then on."""

from __future__ import annotations

import html
import logging
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

from aiohttp import web

from services.runtime import logs
from services.runtime.access import Gate
from services.runtime.authentication import Authentication
from services.runtime.errors import KeysUnavailable, QuotaExceeded, RequestIncomplete, ScopeMissing, ServiceError
from services.runtime.limits import count_breach
from services.viewer.bodies import read_body
from services.viewer.settings import ViewerSettings

PAGE = Path(__file__).parent / "page"

SIGNED_OUT = 4401
"""How a socket ends whose token is not accepted, or no more."""

LONGEST_WORD = 64
"""Bytes of a message that a page may send; it says that it has drawn something, and no more."""

_COOKIE = "perception_token"
_LONGEST_FORM = 16 * 1024
_MOST_FIELDS = 8
_GOODBYE_SECONDS = 2.0
"""For who is not let in, to answer that its socket is closed."""
_OPEN = frozenset({"/healthz", "/login", "/page/style.css", "/page/icon.svg"})
"""What the form itself needs, and who looks after the process."""

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Login:
    """Lets people in who have a token with the scope `watch`, and their pictures where it has `perceive`.

    The browser keeps the token in a cookie that no script can read and no other site can use. So a token that is
    withdrawn ends what was begun with it, and any replica of the viewer knows who was let in by another.
    """

    def __init__(self, settings: ViewerSettings) -> None:
        self._gate = Gate(Authentication(settings))
        self._receive_seconds = settings.receive_seconds
        self._is_secure = settings.tls_as_server is not None
        self._form = (PAGE / "login.html").read_text(encoding="utf-8")
        self._index = (
            (PAGE / "index.html").read_text(encoding="utf-8").replace(' id="sign-out" hidden', ' id="sign-out"')
        )

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuses what is asked for without a token that allows it."""
        if request.path in _OPEN:
            return await handler(request)
        token = request.cookies.get(_COOKIE, "")
        try:
            if request.path == "/perceive":
                client = await self._gate.admit(token, "perceive")
            else:
                client = await self._gate.identify(token, "watch")
        except ServiceError as error:
            count_breach(error)
            return await _refuse(request, error)
        logs.client.set(client.name)
        return await handler(request)

    async def watch_over(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        """Ends a socket when its token is not accepted any more."""
        error = await self._gate.refused(request.cookies.get(_COOKIE, ""), "watch")
        await socket.close(code=SIGNED_OUT, message=str(error).encode()[:120])

    async def index(self, _: web.Request) -> web.Response:
        """The page, with a way out."""
        return web.Response(text=self._index, content_type="text/html")

    async def form(self, _: web.Request) -> web.Response:
        """Asks for a token."""
        return self._ask("", HTTPStatus.OK)

    async def sign_in(self, request: web.Request) -> web.Response:
        """Takes a token."""
        if request.content_length is None or request.content_length > _LONGEST_FORM:
            return self._ask("That is no token.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            token = _token(await read_body(request, self._receive_seconds))
        except RequestIncomplete as error:
            return self._ask(f"{error} (RECEIVE_SECONDS)", HTTPStatus.REQUEST_TIMEOUT)
        try:
            client = await self._gate.admit(token, "watch")
        except ServiceError as error:
            count_breach(error)
            log.warning("nobody was let in", extra={"reason": str(error)})
            return self._ask(str(error), _status(error))
        log.info("signed in", extra={"client": client.name})
        answer = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/"})
        # Until the browser is closed; the token's own end is looked at with every request.
        answer.set_cookie(_COOKIE, token, httponly=True, samesite="Strict", secure=self._is_secure, path="/")
        return answer

    async def sign_out(self, _: web.Request) -> web.Response:
        """Makes the browser forget the token."""
        answer = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/login"})
        answer.del_cookie(_COOKIE, path="/")
        return answer

    def _ask(self, problem: str, status: HTTPStatus) -> web.Response:
        text = self._form.replace("{problem}", html.escape(problem))
        return web.Response(text=text, content_type="text/html", status=status)


async def _refuse(request: web.Request, error: ServiceError) -> web.StreamResponse:
    if request.headers.get("Upgrade", "").lower() == "websocket":
        # Scripts are not told the status of an answer that opens no socket, only how one was closed.
        socket = web.WebSocketResponse(timeout=_GOODBYE_SECONDS, compress=False, max_msg_size=LONGEST_WORD)
        await socket.prepare(request)
        await socket.close(code=SIGNED_OUT)
        return socket
    if request.path == "/":
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/login"})
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    return web.json_response({"error": str(error)}, status=_status(error), headers=headers)


def _token(form: bytes) -> str:
    """The token in what a form sent; empty where there is none."""
    try:
        fields = parse_qs(form.decode("ascii"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return ""
    return fields.get("token", [""])[0].strip()


def _status(error: ServiceError) -> HTTPStatus:
    match error:
        case ScopeMissing():
            return HTTPStatus.FORBIDDEN
        case QuotaExceeded():
            return HTTPStatus.TOO_MANY_REQUESTS
        case KeysUnavailable():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            return HTTPStatus.UNAUTHORIZED
