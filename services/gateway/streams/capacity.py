"""How the streams share the system."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from services.runtime import metrics
from services.runtime.engines import Priority
from services.runtime.slots import Slots


@dataclass(eq=False)
class Claim:
    """One stream's claim. served: the turn in which it was last served, 0 for a newcomer."""

    priority: Priority
    served: int = 0


class Capacity:
    """The frames that may be at work at once over all streams.

    The next turn is that of the most urgent stream; among equally urgent ones, that of the stream that was served
    longest ago. So every stream that always has a frame waiting gets as many turns as any other, however many frames a
    second its camera takes, and one that has a frame now and then is served at once.
    """

    def __init__(self, frames: int) -> None:
        self._slots = Slots(frames)
        self._turns = count(1)

    async def take(self, claim: Claim) -> None:
        """Waits for the stream's turn. Whoever takes one gives it back."""
        await self._slots.take((claim.priority, claim.served))
        claim.served = next(self._turns)
        metrics.STREAM_FRAMES_AT_WORK.inc()

    def give_back(self) -> None:
        """A frame is no longer at work."""
        metrics.STREAM_FRAMES_AT_WORK.dec()
        self._slots.give_back()
