"""What the part about the knee makes of a system whose knee is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from loadtest.bench import knee
from loadtest.bench.run import Run
from loadtest.plan import Closed, Open, Plan, Streams
from loadtest.result import Result
from tests.loadtest.test_knee import result

CAPACITY = 8.0


class Known:
    """Stands for a running system: it answers in 0.1 s what it has the capacity for, and more in a second."""

    def __init__(self) -> None:
        self.seeds: list[tuple[str, int]] = []

    def drive(self, load: Open | Closed | Streams, frames: object, seconds: float, seed: int = 0) -> Result:
        if isinstance(load, Open):
            self.seeds.append((load.arrivals, seed))
        return result(Plan(load=load, seconds=seconds), CAPACITY)


def test_the_knee_is_found_by_the_system_s_own_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known()

    @contextmanager
    def running(*_: Any) -> Iterator[Any]:
        yield known

    monkeypatch.setattr(knee, "system", running)
    monkeypatch.setattr(knee, "frames_for", running)
    found = knee.measure(Run(quick=False, port_base=0, console=Console(file=StringIO())))

    assert CAPACITY / 1.15 <= found.values["knee"] <= CAPACITY
    assert found.values["p99_by_p50.cameras"] == found.values["p99_by_p50.fixed"] == pytest.approx(1, rel=0.01)
    assert found.spread("p99_by_p50.cameras") == pytest.approx((1, 1), rel=0.01)
    # Cameras begin elsewhere in each round.
    assert [seed for arrivals, seed in known.seeds if arrivals == "cameras"][-3:] == [0, 1, 2]
    # Each result says that it is of one frame.
    assert "Only 3 frames came in even steps" in " ".join(found.notes)
