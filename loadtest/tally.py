"""What became of frames: counts and histograms that processes keep for themselves and that add up."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from hdrh.histogram import HdrHistogram

LATE_SECONDS = 0.01
"""A frame for which a client process wakes up later than this is late, and that is the client's own doing."""

_HIGHEST_MICROSECONDS = 3_600_000_000
_DIGITS = 3
_STAGE_DIGITS = 2
"""Significant digits of a stage's times: there are many stages."""


def histogram(digits: int = _DIGITS) -> HdrHistogram:
    """An empty histogram of microseconds, up to an hour."""
    return HdrHistogram(1, _HIGHEST_MICROSECONDS, digits)


def record(into: HdrHistogram, seconds: float) -> None:
    """Counts one duration."""
    into.record_value(min(max(round(seconds * 1e6), 1), _HIGHEST_MICROSECONDS))


def merge(into: HdrHistogram, encoded: str) -> None:
    """Adds what another process counted."""
    into.decode_and_add(encoded)


class Tally:
    """What became of frames, while they were counted.

    due: frames that were to be sent; `late` of them woke this process more than `LATE_SECONDS` after their moment.
    answered: scenes that came, whenever their frames were due. The rest is about the frames that were due: scenes, of
    which `partial` lack a task's answer; drops by reason; errors by code, each with the last message; how often each
    task ended how. latency: from the moment a frame was due to its scene. call: from the moment it was really sent.
    lag: from the moment it was due to the moment this process woke up for it. stages: what the answers' timings say.
    """

    COUNTS = ("due", "late", "answered", "scenes", "partial")
    TIMES = ("latency", "call", "lag")

    def __init__(self) -> None:
        self.due = self.late = self.answered = self.scenes = self.partial = 0
        self.drops: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.messages: dict[str, str] = {}
        self.tasks: Counter[str] = Counter()
        self.latency, self.call, self.lag = histogram(), histogram(), histogram()
        self.stages: defaultdict[str, HdrHistogram] = defaultdict(lambda: histogram(_STAGE_DIGITS))

    def encode(self) -> dict[str, Any]:
        """The tally as JSON can hold it."""
        return {
            **{name: getattr(self, name) for name in self.COUNTS},
            **{name: _encoded(getattr(self, name)) for name in self.TIMES},
            "drops": self.drops,
            "errors": self.errors,
            "messages": self.messages,
            "tasks": self.tasks,
            "stages": {stage: _encoded(times) for stage, times in self.stages.items()},
        }

    def add(self, encoded: dict[str, Any]) -> None:
        """Adds another tally, as `encode` gives it."""
        for name in self.COUNTS:
            setattr(self, name, getattr(self, name) + encoded[name])
        for name in self.TIMES:
            merge(getattr(self, name), encoded[name])
        for stage, times in encoded["stages"].items():
            merge(self.stages[stage], times)
        self.drops.update(encoded["drops"])
        self.errors.update(encoded["errors"])
        self.messages.update(encoded["messages"])
        self.tasks.update(encoded["tasks"])


def _encoded(times: HdrHistogram) -> str:
    encoded: bytes = times.encode()
    return encoded.decode("ascii")
