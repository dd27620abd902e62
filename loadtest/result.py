"""What a measurement found, as it is written to JSON. Durations are in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from hdrh.histogram import HdrHistogram
from pydantic import Field

from loadtest.plan import Part, Plan
from loadtest.tally import Durations


class Distribution(Part):
    """Durations. histogram: of microseconds, in HdrHistogram's own encoding; empty where it is not kept."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    histogram: str = Field(default="", repr=False)

    @classmethod
    def of(cls, times: Durations, *, keep: bool = False) -> Distribution:
        """What was counted; all 0 where nothing was. keep: with the histogram."""
        if not times.count:
            return cls(count=0, mean=0, p50=0, p90=0, p99=0, p999=0, max=0)
        p50, p90, p99, p999 = times.quantiles(50, 90, 99, 99.9)
        return cls(
            count=times.count,
            mean=times.seconds / times.count,
            p50=p50,
            p90=p90,
            p99=p99,
            p999=p999,
            max=times.histogram.get_max_value() / 1e6,
            histogram=times.histogram.encode().decode("ascii") if keep else "",
        )

    def quantile(self, percent: float) -> float:
        """The duration that so many percent do not exceed. Only where the histogram is kept."""
        return float(HdrHistogram.decode(self.histogram).get_value_at_percentile(percent)) / 1e6 if self.count else 0.0


class FrameSource(Part):
    """The frames that were sent. height, width: of the first one in pixels. mean_bytes: of a frame as it is sent."""

    source: str
    count: int
    height: int
    width: int
    mean_bytes: float


class System(Part):
    """The system that was measured, as it describes itself. models: catalogue entry by task."""

    version: str
    taxonomy: str
    models: dict[str, str]


class Machine(Part):
    """Where the client ran."""

    processor: str
    cores: int
    memory_bytes: int
    platform: str
    python: str


class Failure(Part):
    """Frames that ended with one code, and the last message about it."""

    count: int
    message: str


class ProcessUse(Part):
    """What one kind of process used while the window was open; of several alike their sum.

    cpu_seconds: user and system. resident_bytes: at the window's end; resident_bytes_max: the most that was seen.
    """

    name: str
    processes: int
    cpu_seconds: float
    resident_bytes: int
    resident_bytes_max: int


class ClientUse(Part):
    """How the client itself did. late_share: of frames that it woke up for more than 10 ms late. busiest_core_share: of
    one core, by the client process that used most. limit: why the client, and not the system, may have been the limit;
    empty where it was not.
    """

    processes: int
    late_share: float
    lag: Distribution
    busiest_core_share: float
    limit: str


class Interval(Part):
    """What happened in one second of the window. cpu_cores: that the system's processes used."""

    second: int
    due: int
    answered: int
    dropped: int
    failed: int
    p50: float
    p99: float
    in_flight: int
    cpu_cores: float


class Result(Part):
    """One measurement. docs/performance.md defines every number.

    throughput: scenes a second. latency: from the moment a frame was due to its scene; call: from the moment it was
    sent. tasks: how often each task ended how. stages: by "gateway.fuse" or "detection.inference". counters: by how
    much the system's own counters grew, where its /metrics were given.
    """

    format: Literal["perception-loadtest-1"] = "perception-loadtest-1"
    plan: Plan
    frames: FrameSource
    system: System
    machine: Machine
    started: datetime
    due: int
    answered: int
    scenes: int
    partial: int
    drops: dict[str, int]
    errors: dict[str, Failure]
    tasks: dict[str, int]
    throughput: float
    latency: Distribution
    call: Distribution
    stages: dict[str, Distribution]
    processes: list[ProcessUse]
    counters: dict[str, float]
    client: ClientUse
    intervals: list[Interval]
    warnings: list[str]

    @property
    def dropped(self) -> int:
        """Frames that the gateway left out."""
        return sum(self.drops.values())

    @property
    def failed(self) -> int:
        """Frames that ended with an error."""
        return sum(failure.count for failure in self.errors.values())

    @property
    def missed_share(self) -> float:
        """Share of the due frames without a whole scene: errors, drops, and scenes that lack a task's answer."""
        return (self.failed + self.dropped + self.partial) / self.due if self.due else 0.0

    @property
    def cpu_seconds_per_frame(self) -> float | None:
        """Of all processes of the system together; None where they were not watched or nothing was answered."""
        if not self.processes or not self.answered:
            return None
        return sum(process.cpu_seconds for process in self.processes) / self.answered


def services_of(result: Result) -> list[str]:
    """The gateway and the tasks, by the stages that were timed."""
    return ["gateway", *sorted({name.partition(".")[0] for name in result.stages} - {"gateway", "outside"})]
