"""A camera that streams on, whatever happens, and accounts for each of its frames."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

from perception import AsyncPerceptionClient, Frame, PerceptionError

from tests.resilience.offered import RETRYABLE
from tests.support.contract_models import picture

FRAMES_PER_SECOND = 10
RETRY_SECONDS = 0.2


class Camera:
    """results: of all frames, scene, partial, error, the reason of a drop, or told: a call ended before their answer.

    wrong: what must not happen.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.sent = 0
        self.results: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.calls = 0
        self._last = 0

    async def stream(self, seconds: float) -> None:
        """Until then, over as many calls as it takes."""
        end = time.monotonic() + seconds
        async with AsyncPerceptionClient(self._address) as client:
            while time.monotonic() < end:
                await self._call(client, end)

    async def _call(self, client: AsyncPerceptionClient, end: float) -> None:
        self.calls += 1
        unanswered: list[int] = []

        async def frames() -> AsyncIterator[Frame]:
            while time.monotonic() < end:
                self.sent += 1
                unanswered.append(self.sent)
                yield Frame(picture(), sequence=self.sent)
                await asyncio.sleep(1 / FRAMES_PER_SECOND)

        try:
            async for answer in client.stream(frames(), camera="gate", resume_after=self._last or None):
                self._last = answer.sequence
                if not unanswered or unanswered.pop(0) != answer.sequence:
                    self.wrong.append(f"an answer to frame {answer.sequence} out of its turn")
                if answer.scene is not None:
                    whole = all(status.state in ("OK", "SKIPPED") for status in answer.scene.task_status.values())
                    self.results["scene" if whole else "partial"] += 1
                elif answer.dropped is not None:
                    self.results[answer.dropped.reason] += 1
                else:
                    self.results["error"] += 1
                    if answer.error is None or answer.error.code not in RETRYABLE:
                        self.wrong.append(f"frame {answer.sequence}: {answer.error}")
            if unanswered:
                self.wrong.append(f"a call that ended well without answers to {unanswered}")
        except PerceptionError as error:
            self.results["told"] += len(unanswered)
            if error.code.name not in RETRYABLE:
                self.wrong.append(f"a call ended with {error.code.name}: {error}")
            await asyncio.sleep(RETRY_SECONDS)
