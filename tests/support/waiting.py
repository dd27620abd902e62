"""Waiting for something that another process brings about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[bool]], timeout_seconds: float = 20.0) -> None:
    """Asks `holds` every 50 ms until it answers true. Raises `TimeoutError` where it does not in time."""
    async with asyncio.timeout(timeout_seconds):
        while not await holds():  # noqa: ASYNC110  another process sets no event here
            await asyncio.sleep(0.05)
