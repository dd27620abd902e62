"""What no browser would send is refused in a word; `make fuzz` looks for more of it."""

from __future__ import annotations

import asyncio
import gzip
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import yaml

from services.runtime.tokens import digest
from tests.fuzz.browsing import TOKEN, request
from tests.fuzz.web import connection
from tests.services.viewer.camera_agent import SceneAgent
from tests.support.service import ServiceProcess, peak_megabytes

FORM = "Content-Type: application/x-www-form-urlencoded"
SETTINGS = {"RECEIVE_SECONDS": 1, "MAX_UPLOADS": 1, "GATEWAY_URL": "127.0.0.1:1"}


@pytest.fixture
def guarded(agent: SceneAgent, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A viewer that asks for a token."""
    tokens = tmp_path / "tokens.yaml"
    entry = {"name": "watcher", "sha256": digest(TOKEN), "scopes": ["watch", "perceive"]}
    tokens.write_text(yaml.safe_dump([entry]))
    asking = {"AUTHENTICATION": "required", "AUTHENTICATION_TOKENS_FILE": tokens, "CAMERA_AGENTS": agent.address}
    with ServiceProcess("viewer", tmp_path, **SETTINGS, **asking) as process:
        yield process


async def answer(viewer: ServiceProcess, sent: bytes) -> bytes:
    """All that comes back until the viewer closes the connection."""
    async with connection(port(viewer)) as (reader, writer):
        writer.write(sent)
        return await asyncio.wait_for(reader.read(), 30)


def port(viewer: ServiceProcess) -> int:
    return int(viewer.address.partition(":")[2])


def form(body: bytes, *headers: str) -> bytes:
    return request("POST", "/login", *headers, f"Content-Length: {len(body)}", body=body)


REFUSED = {
    "a name longer than a file's": (request("GET", "/page/" + "a" * 3000), 404),
    "a file outside of the page": (request("GET", "/page/..%2fsettings.py"), 404),
    "an origin that is no URL": (request("POST", "/logout", "Origin: http://["), 403),
    "a header that is no text": (request("GET", "/", "Cookie: perception_token=\xff"), 400),
    "a socket of a version that is no text": (request("GET", "/cameras", "Sec-WebSocket-Version: \xff"), 400),
    "a form that is no text": (form(b"token=\xff", FORM), 401),
    "a form in a charset that is none": (form(b"token=a", FORM + "; charset=moon"), 401),
    "a form of parts without their boundary": (form(b"--b", "Content-Type: multipart/form-data"), 401),
    "a form of many fields": (form(b"a&" * 8000, FORM), 401),
    "a packed form, a thousand times as large": (
        form(gzip.compress(b"a&" * 2**22), FORM, "Content-Encoding: gzip"),
        401,
    ),
    "what is no HTTP": (b"GET / HTTP/1.1\r\nCookie: perception_token=secret\x01\r\n\r\n", 400),
}


async def test_a_word_is_the_answer(guarded: ServiceProcess) -> None:
    before = peak_megabytes(guarded.process.pid)
    for what, (sent, status) in REFUSED.items():
        told = await answer(guarded, sent.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n"))
        assert re.match(rb"HTTP/1\.[01] %d " % status, told), (what, told[:100])
    assert peak_megabytes(guarded.process.pid) - before < 64
    assert [record for record in guarded.records() if record["level"] == "ERROR"] == []
    assert "secret" not in guarded.output()


async def test_who_sends_a_byte_now_and_then_is_not_waited_for(guarded: ServiceProcess) -> None:
    """Neither for its headers nor for its body; then the next one's turn has come."""
    picture = request("POST", "/perceive", "Content-Length: 1000", body=b"x")
    told = await asyncio.gather(answer(guarded, b"GET / HTTP/1.1\r\nHost: viewer\r\n"), answer(guarded, picture))
    assert told[0] == b""
    assert b" 408 " in told[1]
    assert b"RECEIVE_SECONDS" in told[1]
    assert b" 408 " in await answer(guarded, form(b"token=", FORM).replace(b"Length: 6", b"Length: 99"))
    assert b" 503 " in await answer(
        guarded, request("POST", "/perceive", "Content-Length: 1", "Connection: close", body=b"x")
    )
    assert {"receive_seconds"} == breached(guarded)


async def test_one_connection_too_many_is_told_so(tmp_path: Path) -> None:
    with ServiceProcess("viewer", tmp_path, MAX_CONNECTIONS=8) as viewer:
        async with AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(connection(port(viewer)))
            told = await answer(viewer, b"")
        assert breached(viewer) == {"max_connections"}
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"8 connections are open already (MAX_CONNECTIONS)" in told


def breached(viewer: ServiceProcess) -> set[str]:
    return set(re.findall(r'perception_limit_breaches_total{setting="(\w+)"}', viewer.metrics()))
