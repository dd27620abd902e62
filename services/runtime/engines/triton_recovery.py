"""Replaces a model's process that died: Triton never does so itself, and goes on calling the model ready."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from random import Random

from services.runtime import metrics
from services.runtime.backoff import Backoff
from services.runtime.errors import ServiceError

_FIRST_SECONDS = 0.5
_MOST_SECONDS = 30.0

log = logging.getLogger(__name__)


class Recovery:
    """Unloads a model and loads it again until it works, after pauses that grow.

    works: whether a real inference goes through. reload: unloads and loads; raises `ServiceError`.
    """

    def __init__(self, model: str, works: Callable[[], Awaitable[bool]], reload: Callable[[], Awaitable[None]]) -> None:
        self._model = model
        self._works = works
        self._reload = reload
        self._backoff = Backoff(_FIRST_SECONDS, _MOST_SECONDS, Random())  # noqa: S311
        self._worked_since = float("-inf")
        self._recovering: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Starts in the background, unless it is under way."""
        if self._recovering is None or self._recovering.done():
            # A model that dies of every second picture is not loaded again and again.
            self._backoff.worked(time.monotonic() - self._worked_since)
            self._recovering = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while True:
            pause = self._backoff.next_seconds()
            log.warning("the model's process has died", extra={"model": self._model, "reload_seconds": round(pause, 3)})
            await asyncio.sleep(pause)
            if await self._works():
                break
            metrics.MODEL_RELOADS.labels(self._model).inc()
            try:
                await self._reload()
            except ServiceError as error:
                log.warning("the model could not be loaded again", extra={"model": self._model, "reason": str(error)})
            if await self._works():
                break
        self._worked_since = time.monotonic()
        log.info("the model works again", extra={"model": self._model})

    async def close(self) -> None:
        """Gives up."""
        if self._recovering is not None:
            self._recovering.cancel()
            await asyncio.gather(self._recovering, return_exceptions=True)
