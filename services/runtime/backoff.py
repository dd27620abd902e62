"""How long to wait before trying again."""

from __future__ import annotations

from random import Random


class Backoff:
    """Exponential backoff with full jitter: a random time below a bound that doubles with every failure.

    Full jitter spreads the returns of many cameras that were cut off at once best (M. Brooker, *Exponential Backoff
    And Jitter*, AWS Architecture Blog, 2015).

    first_seconds, most_seconds: the bound of the first wait, and of any.
    """

    def __init__(self, first_seconds: float, most_seconds: float, random: Random) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self._random = random
        self._bound = first_seconds

    def next_seconds(self) -> float:
        """How long to wait this time."""
        bound, self._bound = self._bound, min(self._most, self._bound * 2)
        return self._random.uniform(0, bound)

    def worked(self, seconds: float) -> None:
        """What was tried worked for some seconds: after longer than the longest wait, the next one is short again.

        Not before, or a camera that breaks off after its first frame would be tried all the time.
        """
        if seconds > self._most:
            self._bound = self._first
