"""Requests that are no message of their call: refused as bad input.

Where gRPC parses them, such a request never reaches a handler: its caller is told UNKNOWN or INTERNAL, the log holds a
stack trace, and no metric counts it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from services.runtime.errors import InvalidInput


def parsing(handler: grpc.RpcMethodHandler[Any, Any]) -> Any:
    """The handler with its requests parsed by itself, so that it raises `InvalidInput` for what cannot be parsed."""
    parse = Parser(handler.request_deserializer)
    if handler.unary_unary:
        unary = handler.unary_unary
        return grpc.unary_unary_rpc_method_handler(
            lambda data, context: unary(parse(data), context), None, handler.response_serializer
        )
    if handler.unary_stream:
        stream = handler.unary_stream
        return grpc.unary_stream_rpc_method_handler(
            lambda data, context: stream(parse(data), context), None, handler.response_serializer
        )
    if handler.stream_stream:
        streams: Callable[..., Any] = handler.stream_stream
        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: streams(parse.each(requests), context), None, handler.response_serializer
        )
    return handler


class Parser:
    """Makes messages of bytes, which stay what they are where there is no `deserialize`."""

    def __init__(self, deserialize: Callable[[bytes], Any] | None) -> None:
        self._deserialize = deserialize

    def __call__(self, data: bytes) -> Any:
        """The message. Raises `InvalidInput` where the bytes are none."""
        if self._deserialize is None:
            return data
        try:
            return self._deserialize(data)
        except DecodeError:
            raise InvalidInput("request", "is not a message of this call") from None

    def each(self, requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """A stream's requests, parsed as they are asked for."""
        return _Requests(requests, self)


class _Requests:
    def __init__(self, requests: AsyncIterator[bytes], parse: Parser) -> None:
        self._requests = requests
        self._parse = parse

    def __aiter__(self) -> _Requests:
        # Not before: gRPC warns of requests that were taken up and never read, as those of a call that is refused.
        self._requests = aiter(self._requests)
        return self

    async def __anext__(self) -> Any:
        return self._parse(await anext(self._requests))
