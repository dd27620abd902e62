"""Requests on their way: a caller that begins one and sends the rest slowly, or never, holds up nobody."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from services.runtime.errors import InvalidInput, Overloaded, RequestIncomplete, ServiceError
from services.runtime.limits import count_breach
from services.runtime.parsing import Parser
from services.runtime.status import abort

_RETRY_AFTER_SECONDS = 1.0


class Receiving:
    """The requests of which a part has arrived, at most so many, each for at most so long.

    One more than there is room for ends the one that has been on its way for longest: whoever sends his request at a
    stretch is done before, however many others only begin theirs.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._under_way: dict[asyncio.Timeout, None] = {}

    async def first(self, requests: AsyncIterator[Any]) -> Any:
        """The request of a call that sends one. Raises `RequestIncomplete` or `Overloaded` where it does not arrive."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._seconds) as limit:
                self._under_way[limit] = None
                try:
                    if len(self._under_way) > self._most:
                        self._make_room()
                    return await anext(requests)
                finally:
                    self._under_way.pop(limit, None)
        except StopAsyncIteration:
            # gRPC, which has told the caller by then, tells us no more of one that it found too large.
            raise InvalidInput("request", "is missing, or more than twice as large as it may be") from None
        except TimeoutError:
            if loop.time() - began < self._seconds:
                description = f"{self._most} requests are on their way, this one for longest"
                raise Overloaded(description, _RETRY_AFTER_SECONDS, "max_concurrent_requests") from None
            raise RequestIncomplete(self._seconds) from None

    def _make_room(self) -> None:
        longest = next(iter(self._under_way))
        del self._under_way[longest]
        longest.reschedule(asyncio.get_running_loop().time())


class Bystanders:
    """Calls besides those of the API, for health and reflection, of which some stay open: at most so many."""

    def __init__(self, most: int, receiving: Receiving, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._count = 0
        self._receiving = receiving

    def handler(self, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler, with its place and its request taken care of."""
        parse, serialize = Parser(handler.request_deserializer, self._most_bytes), handler.response_serializer
        if handler.unary_unary:
            return grpc.stream_unary_rpc_method_handler(self._once(handler.unary_unary, parse), None, serialize)
        if handler.unary_stream:
            many = self._many(handler.unary_stream, parse, one=True)
            return grpc.stream_stream_rpc_method_handler(many, None, serialize)
        if handler.stream_stream:
            many = self._many(handler.stream_stream, parse, one=False)
            return grpc.stream_stream_rpc_method_handler(many, None, serialize)
        return handler

    def _once(self, behaviour: Callable[..., Awaitable[Any]], parse: Parser) -> Callable[..., Awaitable[Any]]:
        async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._place():
                request = parse(await self._receiving.first(requests))
                return await behaviour(request, context)

        return _with_status(answer)

    def _many(self, behaviour: Callable[..., Any], parse: Parser, *, one: bool) -> Callable[..., Awaitable[None]]:
        async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            with self._place():
                request = parse(await self._receiving.first(requests)) if one else parse.each(context)
                if not inspect.isasyncgenfunction(behaviour):
                    await behaviour(request, context)
                    return
                async for response in behaviour(request, context):
                    await context.write(response)

        return _with_status(answer)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._count == self._most:
            raise Overloaded(f"{self._most} calls for health and reflection are open already", _RETRY_AFTER_SECONDS)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


def _with_status(answer: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def answer_or_abort(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await answer(requests, context)
        except ServiceError as error:
            count_breach(error)
            await abort(context, error)

    return answer_or_abort
