"""Certificates and tokens of a caller, and files that change while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from perception import TLS
from perception.connections import open_async_channel, open_channel, read_token
from perception.watched import Watched

from tests.support.certificates import Authority
from tests.support.service import eventually

METHOD = "/test.Echo/Say"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


class Echo(grpc.GenericRpcHandler):
    """Answers with the caller's token and the name in its certificate; a stream until the caller ends it."""

    def service(self, details: Any) -> grpc.RpcMethodHandler[bytes, bytes]:
        token = dict(details.invocation_metadata).get("authorization", "")

        def say(request: bytes, context: grpc.ServicerContext) -> bytes:
            names = context.auth_context().get("x509_common_name", [b""])
            return token.encode() + b" " + names[0]

        def echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            yield from requests

        if details.method == METHOD:
            return grpc.unary_unary_rpc_method_handler(say)
        return grpc.stream_stream_rpc_method_handler(echo)


@pytest.fixture
def address(authority: Authority) -> Iterator[str]:
    held = authority.issue("server").read()
    credentials = grpc.ssl_server_credentials(
        [(held.key or b"", held.certificate or b"")], held.authorities, require_client_auth=True
    )
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Echo()])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


def test_a_call_shows_the_certificate_and_the_token_that_the_files_hold_now(
    authority: Authority, address: str, tmp_path: Path
) -> None:
    """A stream that is open goes on over its own connection meanwhile, and that is closed with it."""
    token = tmp_path / "token"
    token.write_text("first\n")
    tls = authority.issue("caller")
    with open_channel(address, (), tls, token) as channel:
        say = channel.unary_unary(METHOD)
        assert say(b"", timeout=20) == b"Bearer first caller"
        requests: list[bytes] = []

        def until_told() -> Iterator[bytes]:
            yield b"one"
            eventually(lambda: bool(requests))
            yield b"two"

        stream = channel.stream_stream("/test.Echo/Stream")(until_told(), timeout=60)
        assert next(stream) == b"one"
        token.write_text("second\n")
        authority.issue("caller", owner="successor")
        eventually(lambda: say(b"", timeout=20) == b"Bearer second successor")
        assert len(channel._connections.open()) == 2  # type: ignore[attr-defined]
        requests.append(b"go on")
        assert list(stream) == [b"two"]
        eventually(lambda: len(channel._connections.open()) == 1)  # type: ignore[attr-defined]


async def test_the_same_for_asyncio(authority: Authority, address: str, tmp_path: Path) -> None:
    tls = authority.issue("caller")
    async with open_async_channel(address, (), tls, "secret") as channel:
        say = channel.unary_unary(METHOD)
        stream = channel.stream_stream("/test.Echo/Stream")(timeout=60)
        await stream.write(b"one")
        assert await stream.read() == b"one"
        authority.issue("caller", owner="successor")
        answers = {await say(b"", timeout=20)}
        while b"Bearer secret successor" not in answers:
            answers.add(await say(b"", timeout=20))
        assert answers <= {b"Bearer secret caller", b"Bearer secret successor"}
        await stream.write(b"two")
        assert await stream.read() == b"two"
        await stream.done_writing()
        assert await stream.code() is grpc.StatusCode.OK
        assert len(channel._connections.open()) == 1  # type: ignore[attr-defined]


def test_files_that_cannot_be_used_are_named(authority: Authority, tmp_path: Path) -> None:
    """And not found out at the first handshake, as gRPC does."""
    mine, other = authority.issue("mine"), authority.issue("other")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    for tls, error, words in (
        (TLS(tmp_path / "none.pem"), OSError, "none.pem: cannot be read"),
        (TLS(nothing), ValueError, "nothing.pem: expected certificates in PEM"),
        (TLS(authority.file, mine.certificate, other.key), ValueError, "mine.crt: expected a certificate in PEM with"),
        (TLS(authority.file, nothing, mine.key), ValueError, "nothing.pem: expected a certificate"),
        (TLS(authority.file, mine.certificate, nothing), ValueError, "mine.crt: expected a certificate"),
    ):
        with pytest.raises(error, match=words):
            open_channel("localhost:1", (), tls)
    with pytest.raises(ValueError, match="expected a certificate and its key, or neither"):
        TLS(authority.file, mine.certificate)


@pytest.mark.parametrize("content", ["", " \n", "to\nken", "tökén"])
def test_a_file_without_a_token_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"token: expected a token"):
        read_token(path)


def test_what_a_file_held_before_holds_while_it_cannot_be_used(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """A certificate without its key, and an expired one: that is for the other side to judge."""
    tls = authority.issue("server")
    watched = tls.watched()
    first = watched.value()
    other = authority.issue("other", -timedelta(minutes=1))
    Path(str(other.certificate)).replace(str(tls.certificate))
    eventually(lambda: watched.value() is first and "cannot be used" in caplog.text)
    Path(str(other.key)).replace(str(tls.key))
    eventually(lambda: watched.value() is not first)
    assert watched.value() is watched.value()


def test_a_file_is_read_once_for_each_change(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text("1")
    read: list[str] = []

    def reading() -> str:
        read.append(path.read_text())
        return read[-1]

    watched = Watched([path], reading)
    for _ in range(100):
        watched.value()
    path.unlink()
    path.write_text("22")
    eventually(lambda: watched.value() == "22")
    assert read == ["1", "22"]
