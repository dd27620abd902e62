"""A stream's messages are read without keeping any of them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator
from typing import Any

import grpc.aio

from services.runtime.parsing import parsing


class Message:
    """Stands for a protobuf message, which nothing can refer to weakly."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


async def test_no_message_is_kept_while_the_next_one_is_awaited() -> None:
    seen: list[tuple[bytes, bool]] = []

    async def watch(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncGenerator[bytes, None]:
        reading = aiter(requests)
        last: weakref.ref[Any] | None = None
        while True:
            coming = asyncio.ensure_future(anext(reading))
            await asyncio.sleep(0.05)
            if last is not None and not coming.done():
                seen.append((b"", last() is not None))
            try:
                message: Any = await coming
            except StopAsyncIteration:
                return
            finally:
                del coming
            seen.append((message.raw, True))
            last = weakref.ref(message)
            yield message.raw
            del message

    server = grpc.aio.server()
    parsed = parsing(grpc.stream_stream_rpc_method_handler(watch, Message, bytes), most_bytes=100)

    async def answer(requests: Any, context: Any) -> AsyncGenerator[bytes, None]:
        async for raw in parsed.stream_stream(requests, context):
            yield raw

    handler = grpc.stream_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"Watch": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.stream_stream("/test/Watch")()
            for raw in (b"one", b"two"):
                await call.write(raw)
                assert await call.read() == raw
                await asyncio.sleep(0.3)
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
    finally:
        await server.stop(None)

    assert seen == [(b"one", True), (b"", False), (b"two", True), (b"", False)]
