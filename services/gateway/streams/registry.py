"""All camera streams of the gateway."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from random import Random

from perception.v1 import perception_pb2

from services.gateway.perceiver import Perceiver
from services.gateway.settings import GatewaySettings
from services.gateway.streams.capacity import Capacity
from services.gateway.streams.identity import Epochs, Identity
from services.gateway.streams.options import StreamOptions
from services.gateway.streams.stream import Stream
from services.runtime import metrics
from services.runtime.errors import Overloaded, Stopping, StreamIdle

Request = perception_pb2.PerceiveStreamRequest
Response = perception_pb2.PerceiveStreamResponse

_RETRY_AFTER_SECONDS = 5.0
_LIFETIME = 0.5, 0.9
"""Least and greatest part of the grace for old connections that a stream lasts."""
_LONG_ENOUGH = "the stream has lasted long enough: go on with another one"
_LONGEST_LIFETIME_SECONDS = 365 * 24 * 3600.0

log = logging.getLogger(__name__)


class Streams:
    """Lets streams in, gives each its share of the system, and ends them when the gateway drains."""

    def __init__(self, settings: GatewaySettings, perceiver: Perceiver) -> None:
        self._settings = settings
        self._perceiver = perceiver
        self._capacity = Capacity(settings.stream_capacity)
        self._epochs = Epochs()
        self._count = 0
        self._open: set[Stream] = set()
        self._cameras: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._random = Random()  # noqa: S311  every gateway's streams end at other times
        metrics.LIMIT.labels("streams").set(settings.max_streams)
        metrics.LIMIT.labels("stream_frames").set(settings.stream_capacity)

    async def serve(self, requests: AsyncIterable[Request]) -> AsyncGenerator[Response, None]:
        """The answers to the frames of one stream.

        Raises `InvalidInput` and `LimitExceeded` for its options, `Overloaded` where there are too many streams,
        `StreamIdle` where no frame comes, and `Stopping` when the gateway drains, or the stream has lasted long enough.
        """
        with self._room():
            # From here on, and not from the first frame, because gRPC counts from the connection's beginning.
            end = asyncio.get_running_loop().time() + self._lifetime()
            rest = aiter(requests)
            stream = await self._opened(rest, end)
            if stream is None:
                return
            with self._registered(stream, end):
                async with aclosing(stream.answers(rest)) as answers:
                    async for answer in answers:
                        yield answer

    async def _opened(self, requests: AsyncIterator[Request], end: float) -> Stream | None:
        """The stream that the first frame asks for, and that has it; None where there is no frame."""
        first = await self._first(requests, end)
        if first is None:
            return None
        options = StreamOptions.read(first, self._settings)
        stream = Stream(
            options,
            self._settings.stream_max_unanswered,
            self._settings.stream_idle_seconds,
            self._perceiver,
            self._capacity,
            Identity(self._epochs, options.track),
        )
        stream.receive(first)
        return stream

    def stop(self) -> None:
        """Lets no stream in any more, and ends those that are open after what they have read is answered."""
        self._stopping.set()
        for stream in self._open:
            stream.stop(Stopping())

    @contextmanager
    def _room(self) -> Iterator[None]:
        if self._count == self._settings.max_streams:
            raise Overloaded(f"{self._count} camera streams are open already", _RETRY_AFTER_SECONDS, "max_streams")
        self._count += 1
        metrics.STREAMS.inc()
        try:
            yield
        finally:
            self._count -= 1
            metrics.STREAMS.dec()

    async def _first(self, requests: AsyncIterator[Request], end: float) -> Request | None:
        """The first frame; None where the stream ends without one."""
        reading = asyncio.ensure_future(anext(requests, None))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            left = end - asyncio.get_running_loop().time()
            idle = self._settings.stream_idle_seconds
            await asyncio.wait((reading, stopping), timeout=min(left, idle), return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                raise Stopping
            if not reading.done():
                raise StreamIdle(idle) if idle < left else Stopping(_LONG_ENOUGH)
            return reading.result()
        finally:
            reading.cancel()
            stopping.cancel()

    def _lifetime(self) -> float:
        """Seconds after which a stream ends by itself, before gRPC would cut it off; those of many cameras differ."""
        share: float = self._random.uniform(*_LIFETIME)
        return min(_LONGEST_LIFETIME_SECONDS, share * self._settings.max_connection_age_grace_seconds)

    @contextmanager
    def _registered(self, stream: Stream, end: float) -> Iterator[None]:
        camera = stream.camera
        ageing = asyncio.get_running_loop().call_at(end, stream.stop, Stopping(_LONG_ENOUGH))
        self._open.add(stream)
        self._cameras[camera] += 1
        metrics.STREAM_DEGRADATION.labels(camera).set(0)
        log.info("stream opened", extra={"camera": camera})
        try:
            yield
        finally:
            log.info("stream closed", extra={"camera": camera})
            ageing.cancel()
            self._open.discard(stream)
            self._cameras[camera] -= 1
            if not self._cameras[camera]:
                # Cameras come and go; what was said of one that is gone would be kept for ever.
                del self._cameras[camera]
                metrics.STREAM_DEGRADATION.remove(camera)
