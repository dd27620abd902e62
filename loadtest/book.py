"""Which frames count, and what became of each."""

from __future__ import annotations

import time

from perception.scene import task_name
from perception.v1 import perception_pb2, task_pb2

from loadtest.tally import LATE_SECONDS, Tally

_OUTSIDE = "outside"
"""The stage of a call that is not the gateway's: transport both ways, waiting before and after."""


class Book:
    """Keeps one process's tally of the frames that were due between `begin` and `end`, by the monotonic clock."""

    def __init__(self, begin: float, end: float) -> None:
        self._begin = begin
        self._end = end
        self._tally = Tally()
        self.in_flight = 0

    def take(self) -> Tally:
        """What was counted since the last time."""
        taken, self._tally = self._tally, Tally()
        return taken

    def due(self, due: float) -> None:
        """A frame is to be sent that nothing was holding up."""
        if self._counts(due):
            self._tally.due += 1

    def woken(self, due: float) -> None:
        """This process has woken up, now, for something that was due."""
        if self._counts(due):
            lag = time.monotonic() - due
            self._tally.lag.record(lag)
            self._tally.late += lag > LATE_SECONDS

    def scene(self, due: float, sent: float, answer: perception_pb2.PerceiveResponse) -> None:
        """A frame has its scene, now."""
        now = time.monotonic()
        # Throughput counts what comes while the window is open, whenever it was due.
        self._tally.answered += self._counts(now)
        if not self._counts(due):
            return
        self._tally.scenes += 1
        self._tally.latency.record(now - due)
        self._tally.call.record(now - sent)
        self._count_tasks(answer)
        self._count_stages(answer, now - sent)

    def dropped(self, due: float, reason: str) -> None:
        """The gateway has left a frame out."""
        if self._counts(due):
            self._tally.drops[reason] += 1

    def error(self, due: float, code: str, message: str) -> None:
        """A frame has no scene. code: canonical gRPC code by name."""
        if self._counts(due):
            self._tally.errors[code] += 1
            self._tally.messages[code] = message

    def _counts(self, moment: float) -> bool:
        return self._begin <= moment < self._end

    def _count_tasks(self, answer: perception_pb2.PerceiveResponse) -> None:
        whole = True
        for status in answer.task_status:
            state = task_pb2.TaskState.Name(status.state).removeprefix("TASK_STATE_")
            self._tally.tasks[f"{task_name(status.task)} {state}"] += 1
            whole = whole and status.state in (task_pb2.TASK_STATE_OK, task_pb2.TASK_STATE_SKIPPED)
        self._tally.partial += not whole

    def _count_stages(self, answer: perception_pb2.PerceiveResponse, call_seconds: float) -> None:
        for timing in answer.timings:
            self._tally.stages[_stage_name(timing)].record(timing.microseconds / 1e6)
            if timing.task == task_pb2.TASK_UNSPECIFIED and timing.stage == task_pb2.STAGE_TOTAL:
                self._tally.stages[_OUTSIDE].record(call_seconds - timing.microseconds / 1e6)


def _stage_name(timing: task_pb2.StageTiming) -> str:
    task = "gateway" if timing.task == task_pb2.TASK_UNSPECIFIED else task_name(timing.task)
    return f"{task}.{task_pb2.Stage.Name(timing.stage).removeprefix('STAGE_').lower()}"
