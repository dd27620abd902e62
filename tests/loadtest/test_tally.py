"""What processes count for themselves adds up to what one would have counted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perception.v1 import perception_pb2, task_pb2

from loadtest.book import Book
from loadtest.result import Distribution
from loadtest.tally import Durations, Tally

durations = st.lists(st.lists(st.floats(0, 5000), max_size=30), min_size=1, max_size=4)


@settings(max_examples=25)
@given(durations)
def test_tallies_add_up(of_processes: list[list[float]]) -> None:
    total, alone = Tally(), Tally()
    for seconds in of_processes:
        tally = Tally()
        for each in seconds:
            for into in (tally, alone):
                into.due += 1
                into.errors["UNAVAILABLE"] += 1
                into.latency.record(each)
                into.stages["gateway.fuse"].record(each)
        total.add(json.loads(json.dumps(tally.encode())))
    assert (total.due, total.errors) == (alone.due, alone.errors)
    for one, other in ((total.latency, alone.latency), (total.stages["gateway.fuse"], alone.stages["gateway.fuse"])):
        assert one.histogram.encode() == other.histogram.encode()
        assert one.seconds == pytest.approx(other.seconds)


@settings(max_examples=25)
@given(st.lists(st.floats(0.0001, 3000), min_size=1, max_size=200))
def test_quantiles_are_right_to_three_digits(seconds: list[float]) -> None:
    times = Durations()
    for each in seconds:
        times.record(each)
    found = Distribution.of(times, keep=True)
    ordered = sorted(seconds)
    assert found.max == pytest.approx(ordered[-1], rel=2e-3)
    assert found.p50 == pytest.approx(ordered[(len(ordered) + 1) // 2 - 1], rel=2e-3, abs=1e-6)
    assert found.quantile(99) == found.p99


def test_a_scene_without_a_task_is_partial() -> None:
    book = Book(0.0, 1e12)
    ok, failed, skipped = task_pb2.TASK_STATE_OK, task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_SKIPPED
    for second in (ok, skipped, failed):
        states = [(task_pb2.TASK_DETECTION, ok), (task_pb2.TASK_CLASSIFICATION, second)]
        status = [task_pb2.TaskStatus(task=task, state=state) for task, state in states]
        book.scene(1.0, 1.0, perception_pb2.PerceiveResponse(task_status=status))
    tally = book.take()
    assert (tally.scenes, tally.partial) == (3, 1)
    assert tally.tasks == {
        "detection OK": 3,
        "classification OK": 1,
        "classification SKIPPED": 1,
        "classification FAILED": 1,
    }
