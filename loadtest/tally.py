"""What became of frames: counts and histograms that processes keep for themselves and that add up."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from hdrh.histogram import HdrHistogram

LATE_SECONDS = 0.01
"""A frame for which a client process wakes up later than this is late, and that is the client's own doing."""

_HIGHEST_MICROSECONDS = 3_600_000_000
_STAGE_DIGITS = 2
"""Significant digits of a stage's times: there are many stages."""


class Durations:
    """Durations up to an hour: their number, their sum, and how they are distributed, to so many significant digits."""

    def __init__(self, digits: int = 3) -> None:
        self.seconds = 0.0
        self.histogram = HdrHistogram(1, _HIGHEST_MICROSECONDS, digits)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.histogram.get_total_count())

    def record(self, seconds: float) -> None:
        """Counts one."""
        self.seconds += seconds
        self.histogram.record_value(min(max(round(seconds * 1e6), 1), _HIGHEST_MICROSECONDS))

    def quantiles(self, *percents: float) -> list[float]:
        """The seconds that so many percent do not exceed."""
        found = self.histogram.get_percentile_to_value_dict(percents)
        return [found[percent] / 1e6 for percent in percents]

    def encode(self) -> dict[str, Any]:
        """The durations as JSON can hold them."""
        return {"seconds": self.seconds, "histogram": self.histogram.encode().decode("ascii")}

    def add(self, encoded: dict[str, Any]) -> None:
        """Adds others, as `encode` gives them."""
        self.seconds += encoded["seconds"]
        self.histogram.decode_and_add(encoded["histogram"])


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
        self.latency, self.call, self.lag = Durations(), Durations(), Durations()
        self.stages: defaultdict[str, Durations] = defaultdict(lambda: Durations(_STAGE_DIGITS))

    def encode(self) -> dict[str, Any]:
        """The tally as JSON can hold it."""
        return {
            **{name: getattr(self, name) for name in self.COUNTS},
            **{name: getattr(self, name).encode() for name in self.TIMES},
            "drops": self.drops,
            "errors": self.errors,
            "messages": self.messages,
            "tasks": self.tasks,
            "stages": {stage: times.encode() for stage, times in self.stages.items()},
        }

    def add(self, encoded: dict[str, Any]) -> None:
        """Adds another tally, as `encode` gives it."""
        for name in self.COUNTS:
            setattr(self, name, getattr(self, name) + encoded[name])
        for name in self.TIMES:
            getattr(self, name).add(encoded[name])
        for stage, times in encoded["stages"].items():
            self.stages[stage].add(times)
        self.drops.update(encoded["drops"])
        self.errors.update(encoded["errors"])
        self.messages.update(encoded["messages"])
        self.tasks.update(encoded["tasks"])
