"""Channels that show who calls, and go on with new certificates and tokens when their files change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Generic, Self, TypeVar

import grpc
import grpc.aio

from perception.tls import TLS, Certificates
from perception.watched import Watched

Options = Sequence[tuple[str, str | int]]
Token = str | Path
Channel = TypeVar("Channel")
Method = Callable[..., Any]


def open_channel(address: str, options: Options, tls: TLS | None = None, token: Token | None = None) -> grpc.Channel:
    """A channel to an address. Raises `OSError` and `ValueError` for files that cannot be used.

    tls: plain text where none is given. token: sent with every call as a bearer token; a path is that of a file that
    holds it. The files may be replaced at any time: a call that begins from then on goes by what they hold, and one
    that is under way is not disturbed.
    """
    return _Channel(address, options, tls, token) if tls or token else grpc.insecure_channel(address, options)


def open_async_channel(
    address: str, options: Options, tls: TLS | None = None, token: Token | None = None
) -> grpc.aio.Channel:
    """As `open_channel`, for asyncio."""
    return _AsyncChannel(address, options, tls, token) if tls or token else grpc.aio.insecure_channel(address, options)


def read_token(path: Path) -> str:
    """The token in a file. Raises `OSError` and `ValueError` where there is none."""
    token = path.read_text(encoding="utf-8").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ValueError(f"{path}: expected a token")
    return token


class _Authorization:
    """The metadata that carry a token."""

    def __init__(self, token: Token | None) -> None:
        self._token = token if isinstance(token, str) else ""
        self._watched = Watched([token], lambda: read_token(token)) if isinstance(token, Path) else None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        token = self._watched.value() if self._watched else self._token
        return (("authorization", f"Bearer {token}"),) if token else ()


@dataclass(eq=False)
class _Connected(Generic[Channel]):
    """A channel, the certificates that it was made with, its methods, and the calls on it."""

    channel: Channel
    certificates: Certificates | None
    methods: dict[object, Method] = field(default_factory=dict)
    calls: int = 0


class _Connections(Generic[Channel]):
    """The channel for new calls, and those with older certificates until their last call has ended."""

    def __init__(
        self, make: Callable[[Certificates | None], Channel], close: Callable[[Channel], None], tls: TLS | None
    ) -> None:
        self._make = make
        self._close = close
        self._certificates = tls.watched() if tls else None
        self._lock = Lock()
        self._old: set[_Connected[Channel]] = set()
        self._newest = self._connect()

    def newest(self) -> Channel:
        """The channel for new calls."""
        with self._lock:
            self._renew()
            return self._newest.channel

    def open(self) -> list[Channel]:
        """All channels."""
        with self._lock:
            return [connected.channel for connected in (self._newest, *self._old)]

    def begin(self, kind: str, *parts: Any, **more: Any) -> tuple[Method, Callable[[], None]]:
        """A method of the channel for a new call, and what is to be called when that call has ended.

        kind: the name of the channel's own method that makes it of `parts` and `more`, such as "unary_unary".
        """
        with self._lock:
            self._renew()
            used = self._newest
            used.calls += 1
            if parts not in used.methods:
                used.methods[parts] = getattr(used.channel, kind)(*parts, **more)
            return used.methods[parts], lambda: self._end(used)

    def _end(self, used: _Connected[Channel]) -> None:
        with self._lock:
            used.calls -= 1
            is_left = used in self._old and not used.calls
            if is_left:
                self._old.remove(used)
        if is_left:
            self._close(used.channel)

    def _renew(self) -> None:
        if self._certificates is None or self._certificates.value() is self._newest.certificates:
            return
        before, self._newest = self._newest, self._connect()
        if before.calls:
            self._old.add(before)
        else:
            self._close(before.channel)

    def _connect(self) -> _Connected[Channel]:
        certificates = self._certificates.value() if self._certificates else None
        return _Connected(self._make(certificates), certificates)


class _Channel(grpc.Channel):
    def __init__(self, address: str, options: Options, tls: TLS | None, token: Token | None) -> None:
        def make(certificates: Certificates | None) -> grpc.Channel:
            if certificates is None:
                return grpc.insecure_channel(address, options)
            return grpc.secure_channel(address, certificates.channel_credentials(), options)

        self._authorization = _Authorization(token)
        self._connections = _Connections(make, lambda channel: channel.close(), tls)

    def unary_unary(self, *parts: Any, **more: Any) -> Any:
        return self._answered_at_once("unary_unary", *parts, **more)

    def stream_unary(self, *parts: Any, **more: Any) -> Any:
        return self._answered_at_once("stream_unary", *parts, **more)

    def unary_stream(self, *parts: Any, **more: Any) -> Any:
        return self._answered_as_a_stream("unary_stream", *parts, **more)

    def stream_stream(self, *parts: Any, **more: Any) -> Any:
        return self._answered_as_a_stream("stream_stream", *parts, **more)

    def _answered_at_once(self, *method: Any, **more: Any) -> Method:
        def call(request: Any, *, metadata: Any = None, **options: Any) -> Any:
            invoke, end = self._connections.begin(*method, **more)
            try:
                return invoke(request, metadata=(*(metadata or ()), *self._authorization.metadata()), **options)
            finally:
                end()

        return call

    def _answered_as_a_stream(self, *method: Any, **more: Any) -> Method:
        def call(request: Any, *, metadata: Any = None, **options: Any) -> Any:
            invoke, end = self._connections.begin(*method, **more)
            try:
                answers = invoke(request, metadata=(*(metadata or ()), *self._authorization.metadata()), **options)
            except BaseException:
                end()
                raise
            if not answers.add_callback(end):  # it has ended already
                end()
            return answers

        return call

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        self._connections.newest().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        for channel in self._connections.open():
            channel.unsubscribe(callback)

    def close(self) -> None:
        for channel in self._connections.open():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _AsyncChannel(grpc.aio.Channel):
    def __init__(self, address: str, options: Options, tls: TLS | None, token: Token | None) -> None:
        def make(certificates: Certificates | None) -> grpc.aio.Channel:
            if certificates is None:
                return grpc.aio.insecure_channel(address, options)
            return grpc.aio.secure_channel(address, certificates.channel_credentials(), options)

        self._authorization = _Authorization(token)
        self._closing: set[asyncio.Task[None]] = set()
        self._connections = _Connections(make, self._close_later, tls)

    def unary_unary(self, *parts: Any, **more: Any) -> Any:
        return self._method("unary_unary", *parts, **more)

    def stream_unary(self, *parts: Any, **more: Any) -> Any:
        return self._method("stream_unary", *parts, **more)

    def unary_stream(self, *parts: Any, **more: Any) -> Any:
        return self._method("unary_stream", *parts, **more)

    def stream_stream(self, *parts: Any, **more: Any) -> Any:
        return self._method("stream_stream", *parts, **more)

    def _method(self, *method: Any, **more: Any) -> Method:
        def call(*request: Any, metadata: Any = None, **options: Any) -> Any:
            invoke, end = self._connections.begin(*method, **more)
            try:
                started = invoke(*request, metadata=(*(metadata or ()), *self._authorization.metadata()), **options)
            except BaseException:
                end()
                raise
            started.add_done_callback(lambda _: end())
            return started

        return call

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._connections.newest().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._connections.newest().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._connections.newest().channel_ready()

    async def close(self, grace: float | None = None) -> None:
        await asyncio.gather(*(channel.close(grace) for channel in self._connections.open()), *self._closing)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _close_later(self, channel: grpc.aio.Channel) -> None:
        closing = asyncio.get_running_loop().create_task(channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
