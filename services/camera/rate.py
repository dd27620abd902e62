"""How often something happens."""

from __future__ import annotations

import time
from collections import deque

_WINDOW_SECONDS = 5.0
_SHORTEST_SECONDS = 0.1


class Rate:
    """Events per second over the last five seconds, from their running total."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def saw(self, total: int) -> None:
        """So many have happened in all by now."""
        now = time.monotonic()
        if self._seen and now - self._seen[-1][0] < _SHORTEST_SECONDS:
            return  # keeps the memory small
        self._seen.append((now, total))
        self._forget(now)

    def per_second(self) -> float:
        """The rate; 0 when nothing was seen lately."""
        self._forget(time.monotonic())
        if len(self._seen) < 2:
            return 0.0
        (first_time, first), (last_time, last) = self._seen[0], self._seen[-1]
        return max(0, last - first) / (last_time - first_time)

    def clear(self) -> None:
        """Begins anew, with another total."""
        self._seen.clear()

    def _forget(self, now: float) -> None:
        while self._seen and now - self._seen[0][0] > _WINDOW_SECONDS:
            self._seen.popleft()
