"""Links between processes of this machine that can be made worse: TCP proxies that delay, hold back, lose or cut.

What `tc netem` does to the packets of a network these do to the bytes of connections, on any kernel and without rights.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

Fault = Literal["delayed", "stalled", "dropped", "reset"]
"""What happens to all bytes of a link.

delayed: each piece comes `DELAY_SECONDS` later. stalled: nothing passes, and everything later, as over a network that
loses packets for a while. dropped: all is taken and nothing arrives, until the connections that this broke are reset at
its end. reset: connections are cut off, and new ones at once.
"""
FAULTS: tuple[Fault, ...] = get_args(Fault)
DELAY_SECONDS = 0.2
_PIECE_BYTES = 1 << 16


class Links:
    """Proxies by name, in a thread of their own, from `with` on to its end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links")
        self._links: dict[str, _Link] = {}

    def __enter__(self) -> Links:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def names(self) -> list[str]:
        """All links, in the order in which they were made."""
        return list(self._links)

    def make(self, name: str, to: int) -> int:
        """Another link, to a port of this machine; the port by which it is reached."""
        link = self._links[name] = _Link(to)
        return asyncio.run_coroutine_threadsafe(link.open(), self._loop).result()

    @contextmanager
    def worse(self, name: str, fault: Fault) -> Iterator[None]:
        """Inside, the link has a fault, also for connections that come meanwhile."""
        link = self._links[name]
        self._loop.call_soon_threadsafe(link.turn, fault)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(link.turn, None)

    async def _close(self) -> None:
        for link in self._links.values():
            await link.close()


class _Connection:
    """One connection over a link, with both of its ends. is_broken: bytes of it were lost."""

    def __init__(self, *ends: asyncio.StreamWriter) -> None:
        self._ends = ends
        self.is_broken = False

    def cut(self) -> None:
        for end in self._ends:
            end.transport.abort()


class _Link:
    """One proxy. All but its making happens in the thread of its links."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._fault: Fault | None = None
        self._passes = asyncio.Event()
        self._passes.set()
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()
        self.turn("reset")
        await self._server.wait_closed()
        while self._connections:  # noqa: ASYNC110  each goes by itself, now that it is cut
            await asyncio.sleep(0.01)

    def turn(self, fault: Fault | None) -> None:
        self._fault = fault
        if fault == "stalled":
            self._passes.clear()
        else:
            self._passes.set()
        for connection in self._connections:
            if fault == "reset" or connection.is_broken:
                connection.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, there_writer)
        self._connections.add(connection)
        try:
            if self._fault == "reset":
                return
            await asyncio.gather(
                self._pump(reader, there_writer, connection), self._pump(there_reader, writer, connection)
            )
        except OSError:
            pass  # one end is gone, and so the other shall be
        finally:
            connection.cut()
            self._connections.discard(connection)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            if self._fault == "delayed":
                await asyncio.sleep(DELAY_SECONDS)
            await self._passes.wait()
            if self._fault == "dropped" or connection.is_broken:
                connection.is_broken = True
                continue
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
