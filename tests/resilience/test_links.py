"""The links by which the chaos run spoils a network: each fault does what it says, and leaves nothing behind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.links import DELAY_SECONDS, Links

PATIENCE = 20.0
SILENCE = 0.5


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, to any number of callers."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while said := connection.recv(1 << 16):
                connection.sendall(said)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.fixture
def links(echo: int) -> Iterator[Links]:
    with Links() as made:
        yield made


@pytest.fixture
def port(links: Links, echo: int) -> int:
    return links.make("to the echo", echo)


def call(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE)


def asked(caller: socket.socket, said: bytes) -> bytes:
    caller.sendall(said)
    heard = b""
    while len(heard) < len(said) and (piece := caller.recv(1 << 16)):
        heard += piece
    return heard


def is_cut_off(caller: socket.socket) -> bool:
    try:
        return caller.recv(1) == b""
    except ConnectionError:
        return True


def is_silent(caller: socket.socket) -> bool:
    caller.settimeout(SILENCE)
    try:
        caller.recv(1)
    except TimeoutError:
        return True
    finally:
        caller.settimeout(PATIENCE)
    return False


def test_what_is_said_arrives_whole_and_so_does_its_end(port: int) -> None:
    said = bytes(range(256)) * 4096
    with call(port) as caller:
        threading.Thread(target=caller.sendall, args=(said,)).start()
        heard = b""
        while len(heard) < len(said):
            heard += caller.recv(1 << 16)
        assert heard == said
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(1) == b""


def test_a_delay_is_felt_both_ways_and_ends(links: Links, port: int) -> None:
    with call(port) as caller:
        assert asked(caller, b"before") == b"before"
        with links.worse("to the echo", "delayed"):
            began = time.monotonic()
            assert asked(caller, b"meanwhile") == b"meanwhile"
            assert time.monotonic() - began >= 2 * DELAY_SECONDS
        assert asked(caller, b"after") == b"after"


def test_what_is_held_back_comes_later(links: Links, port: int) -> None:
    with call(port) as caller:
        with links.worse("to the echo", "stalled"):
            caller.sendall(b"held back")
            assert is_silent(caller)
        assert caller.recv(100) == b"held back"


def test_what_is_lost_never_comes_and_its_connection_ends(links: Links, port: int) -> None:
    with call(port) as caller, call(port) as idle:
        assert asked(idle, b"before") == b"before"
        with links.worse("to the echo", "dropped"):
            caller.sendall(b"lost")
            assert is_silent(caller)
        assert is_cut_off(caller)
        assert asked(idle, b"lost nothing") == b"lost nothing"


def test_a_cut_ends_connections_old_and_new(links: Links, port: int) -> None:
    with call(port) as caller:
        assert asked(caller, b"before") == b"before"
        with links.worse("to the echo", "reset"):
            assert is_cut_off(caller)
            with call(port) as late:
                assert is_cut_off(late)
    with call(port) as again:
        assert asked(again, b"after") == b"after"


def test_nobody_there_ends_the_connection(links: Links, echo: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    with call(links.make("to nobody", nobody)) as caller:
        assert is_cut_off(caller)
