"""Load that does not wait: so many requests a second are offered, whatever becomes of them, and each is counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from perception import AsyncPerceptionClient, PerceptionError

from tests.support.contract_models import picture

RETRYABLE = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED")
"""How a request may end that was not answered: the caller may try again."""


_RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class Ended:
    """One request. seconds: from its sending to its end. result: whole, partial, or the error's code.

    answered: the tasks whose answers its scene holds, or that had nothing to do; None where there is no scene.
    """

    sent: float
    seconds: float
    result: str
    words: str = ""
    answered: frozenset[str] | None = None


@dataclass
class Offered:
    """What became of a load. deadline: of each request, in seconds."""

    deadline: float
    ended: list[Ended] = field(default_factory=list)

    def answered(self, first: float = 0.0, last: float = float("inf")) -> int:
        """Whole scenes within their deadline, of requests sent in that span of monotonic seconds."""
        return sum(
            one.result == "whole" and one.seconds <= self.deadline for one in self.ended if first <= one.sent < last
        )

    @property
    def lasted(self) -> float:
        """Seconds from the first request to the last answer."""
        return max(one.sent + one.seconds for one in self.ended) - min(one.sent for one in self.ended)

    @property
    def results(self) -> Counter[str]:
        """How many ended how."""
        return Counter(one.result for one in self.ended)

    @property
    def unaccounted(self) -> list[Ended]:
        """Requests that were lost: neither answered nor ended by an error after which to try again."""
        return [one for one in self.ended if one.result not in ("whole", "partial", *RETRYABLE)]

    @property
    def longest(self) -> float:
        """Seconds by which the latest one was over its deadline; negative where none was."""
        return max(one.seconds for one in self.ended) - self.deadline

    async def perceive(self, client: AsyncPerceptionClient) -> None:
        """Sends one request, and notes its end."""
        sent = time.monotonic()
        words, answered = "", None
        try:
            scene = await client.perceive(picture(), timeout=self.deadline)
            answered = frozenset(
                task for task, status in scene.task_status.items() if status.state in ("OK", "SKIPPED")
            )
            result = "whole" if len(answered) == len(scene.task_status) else "partial"
        except PerceptionError as error:
            result, words = error.code.name, str(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # which would be a defect, and is to be seen as one
            result, words = type(error).__name__, str(error)
        self.ended.append(Ended(sent, time.monotonic() - sent, result, words, answered))


async def offer(address: str, rate: float, seconds: float, deadline: float) -> Offered:
    """Offers so many requests a second for some seconds, at random moments; returns when all have ended."""
    offered = Offered(deadline)
    random = Random(1)
    async with AsyncPerceptionClient(address) as client, asyncio.TaskGroup() as requests:
        end = time.monotonic() + seconds
        due = time.monotonic()
        while (due := due + random.expovariate(rate)) < end:
            await asyncio.sleep(due - time.monotonic())
            requests.create_task(offered.perceive(client))
    return offered


async def closed_loop(address: str, callers: int, seconds: float, deadline: float) -> Offered:
    """So many callers, each with one request after the other, and a pause after one that failed."""
    offered = Offered(deadline)
    end = time.monotonic() + seconds

    async def call(client: AsyncPerceptionClient) -> None:
        while time.monotonic() < end:
            await offered.perceive(client)
            if offered.ended[-1].result not in ("whole", "partial"):
                await asyncio.sleep(_RETRY_SECONDS)

    async with AsyncPerceptionClient(address) as client, asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(call(client))
    return offered
