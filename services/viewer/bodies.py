"""What a request brings besides its headers."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from services.runtime.errors import RequestIncomplete
from services.runtime.limits import count_breach


async def read_body(request: web.Request, seconds: float) -> bytes:
    """The body of a request, whole.

    Raises `RequestIncomplete` where it takes longer, `HTTPBadRequest` where its headers say something else, and
    aiohttp's own errors where it is too large or its sender has gone.
    """
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        error = RequestIncomplete(seconds)
        count_breach(error)
        raise error from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise web.HTTPBadRequest(text="the body does not come as its headers say\n") from None
