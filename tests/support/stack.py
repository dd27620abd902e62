"""Starts a whole system of real processes for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from perception import Scene, Unavailable

from services.stack.layout import EngineKind, Ports, ProcessSpec, processes
from services.stack.supervisor import StackError, Supervisor, require_free
from tests.support.triton import free_ports

TAXONOMY = """
name: contract
categories:
  - {name: red, is_thing: true, color: [255, 0, 0], instance_labels: [red]}
  - {name: green, is_thing: true, color: [0, 255, 0], instance_labels: [green]}
  - {name: blue, is_thing: true, color: [0, 0, 255], instance_labels: [blue]}
  - {name: dark, is_thing: false, color: [40, 40, 40], semantic_labels: [dark]}
  - {name: bright, is_thing: false, color: [220, 220, 220], semantic_labels: [bright]}
attributes:
  - {name: tint, categories: [red, green, blue], minimum_score: 0.0}
"""


Change = Callable[[Ports, list[ProcessSpec]], list[ProcessSpec]]


class Stack:
    """A running system over a model repository, on a range of ports of its own.

    change: what is started instead of the usual processes.
    """

    def __init__(
        self,
        repository: Path,
        taxonomy: str,
        engine: EngineKind,
        directory: Path,
        change: Change = lambda ports, specs: specs,
    ) -> None:
        self.ports = Ports(free_range())
        self.address = f"127.0.0.1:{self.ports.gateway}"
        specs = processes(repository, taxonomy, engine, self.ports, directory)
        self.supervisor = Supervisor(change(self.ports, specs), directory / "logs")

    def __enter__(self) -> Stack:
        self.supervisor.__enter__()
        try:
            self.supervisor.start()
        except BaseException:
            self.supervisor.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop()

    def kill(self, name: str) -> None:
        """Ends a process as a crash does, with no chance to say goodbye."""
        process = self.supervisor.process(name)
        process.kill()
        process.wait()

    def spawn(self, name: str) -> None:
        """Starts a process again, on the same ports."""
        self.supervisor.spawn(name)


def free_range() -> int:
    """The first of twenty ports in a row that nobody listens on."""
    while True:
        base = free_ports(1)[0]
        if base < 60000 and _all_free(base):
            return base


def _all_free(base: int) -> bool:
    try:
        require_free(Ports(base).all())
    except StackError:
        return False
    return True


def eventually(perceive: Callable[[], Scene], holds: Callable[[Scene], bool], seconds: float = 40.0) -> Scene:
    """Perceives again and again until the scene is as expected. Fails with what the last try said."""
    end = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < end:
        try:
            scene = perceive()
            if holds(scene):
                return scene
            last = scene.task_status
        except Unavailable as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds:.0f} s; last: {last}")
