"""One measurement: client processes drive a system while its processes are watched."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from time import monotonic
from typing import Any

import psutil
from perception import PerceptionClient, PerceptionError
from perception.scene import task_name

from loadtest.client_processes import Clients, LoadError
from loadtest.plan import Plan
from loadtest.result import ClientUse, Distribution, Failure, FrameSource, Interval, Machine, ProcessUse, Result, System
from loadtest.sources import Frames
from loadtest.tally import LATE_SECONDS, Durations, Tally
from loadtest.watched import Reading, Watched

_LATE_SHARE = 0.01
_BUSY_CORE_SHARE = 0.8
_STARTING_SECONDS = 0.2
_RECENT = 5
_CAMERA_AGENT = "camera"


@dataclass
class Progress:
    """A measurement that goes on. total: what was counted so far; recent: in the last seconds. seconds: since the load
    started, the warm-up included.
    """

    plan: Plan
    seconds: float = 0.0
    total: Tally = field(default_factory=Tally)
    recent: list[Interval] = field(default_factory=list)
    in_flight: int = 0


def measure(
    plan: Plan, frames: Frames, watched: Watched | None = None, show: Callable[[Progress], object] = lambda _: None
) -> Result:
    """Drives a running system as the plan says, and returns what was found.

    frames: see `loadtest.sources.frames_of`. watched: the system's processes, see `loadtest.watched`. show: hears of
    the progress once a second. Raises `LoadError` where the system does not answer or a client process fails, and
    `WatchError` where a process that is to be watched is not there.
    """
    watched = watched or Watched()
    system = _describe(plan)
    height, width = frames.size
    source = FrameSource(
        source=frames.source, count=len(frames.paths), height=height, width=width, mean_bytes=frames.mean_bytes
    )
    with Clients(plan, frames.paths) as clients:
        started = datetime.now(UTC)
        begin = monotonic() + _STARTING_SECONDS
        clients.start(begin)
        found = _Measuring(plan, clients, watched, begin + plan.warmup_seconds)
        found.run(show)
    return found.result(source, system, started)


class _Measuring:
    """Follows client processes and the system's through the window, which opens at `opens` of the monotonic clock."""

    def __init__(self, plan: Plan, clients: Clients, watched: Watched, opens: float) -> None:
        self._plan = plan
        self._clients = clients
        self._watched = watched
        self._system = _Use(watched)
        self._themselves = _Use(Watched(clients.pids))
        self._opens = opens
        self._progress = Progress(plan)
        self._seconds: dict[int, _Second] = {}
        self._counters: list[dict[str, float]] = []

    def run(self, show: Callable[[Progress], object]) -> None:
        """Until every client process is done."""
        due = self._opens
        closes = self._opens + self._plan.seconds
        while not self._clients.done or due <= closes:
            for told in self._clients.told(until=due):
                self._count(told)
            if (now := monotonic()) < due:
                continue
            if due <= closes:
                self._system.sample()
                self._themselves.sample()
            if due in (self._opens, closes):
                self._counters.append(self._watched.counters())
            self._show(show, now)
            due = min(due + 1, closes) if due < closes else due + 1
        self._show(show, monotonic())

    def _count(self, told: dict[str, Any]) -> None:
        self._progress.total.add(told)
        # What is told now happened in the second before.
        second = int(monotonic() - self._opens - 0.5)
        if 0 <= second < self._plan.seconds:
            self._seconds.setdefault(second, _Second()).add(told)

    def _show(self, show: Callable[[Progress], object], now: float) -> None:
        self._progress.seconds = now - self._opens + self._plan.warmup_seconds
        self._progress.recent = self._intervals(sorted(self._seconds)[-_RECENT:])
        self._progress.in_flight = self._clients.in_flight
        show(self._progress)

    def _intervals(self, seconds: Iterable[int]) -> list[Interval]:
        cores = self._system.cores
        return [
            self._seconds[second].interval(second, cores[second] if second < len(cores) else 0.0) for second in seconds
        ]

    def result(self, frames: FrameSource, system: System, started: datetime) -> Result:
        total = self._progress.total
        processes = self._watched.use(self._system.first, self._system.last)
        client = self._client(total)
        return Result(
            plan=self._plan,
            frames=frames,
            system=system,
            machine=_machine(),
            started=started,
            due=total.due,
            answered=total.answered,
            scenes=total.scenes,
            partial=total.partial,
            drops=dict(total.drops),
            errors={
                code: Failure(count=count, message=total.messages[code]) for code, count in total.errors.most_common()
            },
            tasks=dict(sorted(total.tasks.items())),
            throughput=total.answered / self._plan.seconds,
            latency=Distribution.of(total.latency, keep=True),
            call=Distribution.of(total.call, keep=True),
            stages={stage: Distribution.of(times) for stage, times in sorted(total.stages.items())},
            processes=processes,
            counters={
                series: after - self._counters[0].get(series, 0.0)
                for series, after in self._counters[-1].items()
                if after != self._counters[0].get(series, 0.0)
            },
            client=client,
            intervals=self._intervals(sorted(self._seconds)),
            warnings=_warnings(processes, client),
        )

    def _client(self, total: Tally) -> ClientUse:
        before, after = self._themselves.first, self._themselves.last
        used = [after[key].cpu_seconds - before[key].cpu_seconds for key in after if key in before]
        busiest = max(used, default=0.0) / self._plan.seconds
        late = total.late / total.due if total.due else 0.0
        reasons = []
        if late > _LATE_SHARE:
            reasons.append(f"{late:.1%} of the frames were sent more than {LATE_SECONDS * 1000:.0f} ms late")
        if busiest > _BUSY_CORE_SHARE:
            reasons.append(f"a client process used {busiest:.0%} of a core")
        return ClientUse(
            processes=self._plan.processes,
            late_share=late,
            lag=Distribution.of(total.lag),
            busiest_core_share=busiest,
            limit=" and ".join(reasons),
        )


class _Use:
    """What processes have used at the first and the last sample, and how many cores between any two."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._at = 0.0
        self.first: dict[str, Reading] = {}
        self.last: dict[str, Reading] = {}
        self.cores: list[float] = []

    def sample(self) -> None:
        now, readings = monotonic(), self._watched.read()
        if self._at:
            used = [each.cpu_seconds - self.last[key].cpu_seconds for key, each in readings.items() if key in self.last]
            self.cores.append(sum(used) / (now - self._at))
        else:
            self.first = readings
        self._at, self.last = now, readings


class _Second:
    """What was told in one second."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._latencies: list[dict[str, Any]] = []

    def add(self, told: dict[str, Any]) -> None:
        self._counts.update(
            due=told["due"],
            answered=told["answered"],
            dropped=sum(told["drops"].values()),
            failed=sum(told["errors"].values()),
            in_flight=told["in_flight"],
        )
        self._latencies.append(told["latency"])
        self.__dict__.pop("_quantiles", None)

    @cached_property
    def _quantiles(self) -> tuple[float, float]:
        latency = Durations()
        for encoded in self._latencies:
            latency.add(encoded)
        p50, p99 = latency.quantiles(50, 99) if latency.count else (0.0, 0.0)
        return p50, p99

    def interval(self, second: int, cpu_cores: float) -> Interval:
        p50, p99 = self._quantiles
        return Interval(second=second, p50=p50, p99=p99, cpu_cores=cpu_cores, **self._counts)


def _describe(plan: Plan) -> System:
    try:
        with PerceptionClient(plan.address, tls=plan.caller.tls, token=plan.caller.token) as client:
            told = client.describe(timeout=plan.timeout_seconds)
    except PerceptionError as error:
        raise LoadError(f"{plan.address}: {error.code.name}: {error}") from None
    models = {task_name(each.task): each.model.info.catalog_entry for each in told.tasks if each.HasField("model")}
    return System(version=told.version, taxonomy=told.taxonomy, models=models)


def _warnings(processes: list[ProcessUse], client: ClientUse) -> list[str]:
    warnings = []
    if client.limit:
        warnings.append(f"the client may have been the limit: {client.limit}; try more processes or another machine")
    if any(process.name == _CAMERA_AGENT and process.cpu_seconds for process in processes):
        warnings.append("the system's own cameras were at work too: `perception up --no-cameras` starts it without")
    return warnings


def _machine() -> Machine:
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        platform=platform.platform(),
        python=platform.python_version(),
    )


def _processor() -> str:
    if platform.system() == "Linux":
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
