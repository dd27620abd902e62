"""How long the stages of a request take (for its answer, the metrics and its trace), and how much time is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import grpc.aio
from perception.scene import task_name
from perception.v1 import task_pb2
from prometheus_client import Histogram

from services.runtime import metrics, tracing
from services.runtime.errors import DeadlineExceeded


class Deadline:
    """The moment by which a request must be answered."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @classmethod
    def of(cls, context: grpc.aio.ServicerContext[Any, Any], default_seconds: float) -> Deadline:
        """The caller's deadline, or the default where there is none."""
        remaining = context.time_remaining()
        return cls(default_seconds if remaining is None else remaining)

    def remaining(self, stage: str) -> float:
        """Seconds left. Raises `DeadlineExceeded` naming the stage when there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded(stage)
        return seconds


class StageClock:
    """Measures the stages of one request for its answer, for the metrics, and as spans of its trace."""

    def __init__(self, task: task_pb2.Task) -> None:
        self._task = task
        self._label = "gateway" if task == task_pb2.TASK_UNSPECIFIED else task_name(task)
        self._started = time.perf_counter()
        self._timings: list[task_pb2.StageTiming] = []

    @contextmanager
    def stage(self, stage: task_pb2.Stage) -> Iterator[None]:
        """Measures what happens inside."""
        started = time.perf_counter()
        with tracing.tracer.span(stage_name(stage)):
            yield
        self._add(stage, time.perf_counter() - started)

    def timings(self) -> list[task_pb2.StageTiming]:
        """The stages measured so far, and the total up to now."""
        self._add(task_pb2.STAGE_TOTAL, time.perf_counter() - self._started)
        return self._timings

    def _add(self, stage: task_pb2.Stage, seconds: float) -> None:
        _duration(self._label, stage).observe(seconds)
        self._timings.append(task_pb2.StageTiming(task=self._task, stage=stage, microseconds=round(seconds * 1e6)))


@cache
def _duration(task: str, stage: task_pb2.Stage) -> Histogram:
    return metrics.STAGE_DURATION.labels(task, stage_name(stage))


@cache
def stage_name(stage: task_pb2.Stage) -> str:
    """The stage's name in lower snake case, such as "preprocess"."""
    return task_pb2.Stage.Name(stage).removeprefix("STAGE_").lower()
