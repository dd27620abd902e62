"""A number of places at something scarce, and who gets the next one."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class Slots:
    """Places that are taken and given back; of those who wait, the one with the smallest key is next.

    Equal keys are served in the order of their coming. Belongs to one event loop.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._arrivals = count()
        self._waiting: list[tuple[tuple[int, ...], int, asyncio.Future[None]]] = []

    async def take(self, key: tuple[int, ...]) -> None:
        """Takes a place, waiting until there is one. Who is cancelled while waiting has taken none."""
        if self._free:
            self._free -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (key, next(self._arrivals), granted)
        heapq.heappush(self._waiting, entry)
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():
                self.give_back()
            elif entry in self._waiting:
                # Not left to be skipped later: behind those who always come first, such entries would pile up.
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)
            raise

    def give_back(self) -> None:
        """Gives a place back, to whoever is next."""
        while self._waiting:
            *_, granted = heapq.heappop(self._waiting)
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1
