"""What a stream sends, over the calls that carry it one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from threading import Lock

from perception.convert import ImageLike
from perception.streams import Conversation, Frame, Waiting
from perception.v1 import perception_pb2

Request = perception_pb2.PerceiveStreamRequest


class Feed:
    """Frames that are taken one by one, as a call asks for them; each call begins with those that have no answer."""

    def __init__(self, frames: Iterable[Frame | ImageLike], conversation: Conversation) -> None:
        self._frames = iter(frames)
        self._conversation = conversation
        self._taking = Lock()
        self.failure: Exception | None = None
        """What the caller's own frames raised; gRPC would log it and say nothing of it here."""

    def requests(self) -> Iterator[Request]:
        """What one call sends."""
        waiting = self._next_after(0)
        if waiting is not None:
            yield self._conversation.with_options(waiting.request)
        while waiting is not None and (waiting := self._next_after(waiting.number)) is not None:
            yield waiting.request

    def _next_after(self, number: int) -> Waiting | None:
        if (waiting := self._conversation.next_after(number)) is not None:
            return waiting
        # The call before may wait here for a frame still: that frame is this call's then.
        with self._taking:
            return self._conversation.next_after(number) or self._take()

    def _take(self) -> Waiting | None:
        try:
            return self._conversation.add(next(self._frames))
        except StopIteration:
            return None
        except Exception as error:
            self.failure = error
            return None


class AsyncFeed:
    """As `Feed`, for asyncio."""

    def __init__(self, frames: AsyncIterable[Frame | ImageLike], conversation: Conversation) -> None:
        self._frames = aiter(frames)
        self._conversation = conversation
        self._taking: asyncio.Task[Waiting | None] | None = None

    async def requests(self) -> AsyncGenerator[Request, None]:
        """What one call sends. Raises what the caller's own frames do."""
        waiting = await self._next_after(0)
        if waiting is not None:
            yield self._conversation.with_options(waiting.request)
        while waiting is not None and (waiting := await self._next_after(waiting.number)) is not None:
            yield waiting.request

    async def close(self) -> None:
        """Takes no more frames."""
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)

    async def _next_after(self, number: int) -> Waiting | None:
        while (waiting := self._conversation.next_after(number)) is None:
            if self._taking is None:
                self._taking = asyncio.create_task(self._take())
            # A call that ends while it waits here leaves the frame to the next one.
            if await asyncio.shield(self._taking) is None:
                return None
            self._taking = None
        return waiting

    async def _take(self) -> Waiting | None:
        try:
            return self._conversation.add(await anext(self._frames))
        except StopAsyncIteration:
            return None
