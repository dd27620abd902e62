"""Messages of a call, read and written here and not by gRPC: what is none, or too large, is refused by name.

Where gRPC parses a request that is no message of its call, it never reaches a handler: its caller is told UNKNOWN or
INTERNAL, the log holds a stack trace, and no metric counts it. Of one that gRPC finds too large no metric tells either.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from services.runtime.errors import InvalidInput, LimitExceeded

_SETTING = "max_image_bytes"
"""What the largest message follows from: a picture, and room for the fields around it."""


def parsing(handler: grpc.RpcMethodHandler[Any, Any], most_bytes: int) -> Any:
    """The handler with its messages read and written by itself, each of at most so many bytes.

    It raises `InvalidInput` for what cannot be parsed, and `LimitExceeded` for a request or answer that is too large.
    """
    parse, serialize = Parser(handler.request_deserializer, most_bytes), _Serializer(handler, most_bytes)
    if handler.unary_unary:
        one = handler.unary_unary

        async def answer(data: bytes, context: Any) -> bytes:
            return serialize(await one(parse(data), context))

        return grpc.unary_unary_rpc_method_handler(answer)
    if handler.unary_stream:
        many = handler.unary_stream
        return grpc.unary_stream_rpc_method_handler(
            lambda data, context: serialize.each(many(parse(data), context)),
        )
    if handler.stream_stream:
        streams: Callable[..., Any] = handler.stream_stream
        return grpc.stream_stream_rpc_method_handler(
            lambda _, context: serialize.each(streams(parse.each(context), context)),
        )
    return handler


class Parser:
    """Makes messages of bytes, which stay what they are where there is no `deserialize`."""

    def __init__(self, deserialize: Callable[[bytes], Any] | None, most_bytes: int) -> None:
        self._deserialize = deserialize
        self._most_bytes = most_bytes

    def __call__(self, data: bytes) -> Any:
        """The message. Raises `InvalidInput` where the bytes are none, and `LimitExceeded` for too many."""
        _check_size("request", data, self._most_bytes)
        if self._deserialize is None:
            return data
        try:
            return self._deserialize(data)
        except DecodeError:
            raise InvalidInput("request", "is not a message of this call") from None

    def each(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        """A stream's requests, parsed as they are asked for, none of which is kept."""
        return _Requests(context, self)


class _Requests(AsyncIterator[Any]):
    """Reads from the call: gRPC's own iterator has the last message, with its picture, until another comes."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], parse: Parser) -> None:
        self._context = context
        self._parse = parse

    async def __anext__(self) -> Any:
        data: Any = await self._context.read()
        if data is grpc.aio.EOF:
            raise StopAsyncIteration
        return self._parse(data)


class _Serializer:
    def __init__(self, handler: grpc.RpcMethodHandler[Any, Any], most_bytes: int) -> None:
        self._serialize: Callable[[Any], bytes] = handler.response_serializer or bytes
        self._most_bytes = most_bytes

    def __call__(self, message: Any) -> bytes:
        data = self._serialize(message)
        _check_size("response", data, self._most_bytes)
        return data

    async def each(self, answers: Any) -> AsyncIterator[bytes]:
        """A stream's answers."""
        async with aclosing(answers):
            async for answer in answers:
                yield self(answer)


def _check_size(what: str, data: bytes, most: int) -> None:
    if len(data) > most:
        raise LimitExceeded(what, f"a message of {len(data)} bytes", most, _SETTING)
