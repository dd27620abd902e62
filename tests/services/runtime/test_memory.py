"""The process's memory, each in a process of its own, since the settings last as long as one."""

from __future__ import annotations

import subprocess
import sys

PAGE = 4096

FAULTS = """
import resource, sys
import numpy as np
from services.runtime import memory

if sys.argv[1] == "kept":
    memory.keep_large_arrays()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    arrays = [np.ones(3 << 20, np.uint8) for _ in range(10)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

GARBAGE = """
import gc
from services.runtime import memory

memory.settle()
assert gc.get_freeze_count() > 1_000, "modules are left out"
before = len(gc.get_objects())
class Cycle:
    def __init__(self) -> None:
        self.own = self
most = 0
for _ in range(200_000):
    Cycle()
    most = max(most, gc.get_count()[0])
assert most <= 10_001, "what is made later is still looked through"
gc.collect()
assert len(gc.get_objects()) < before + 1_000
"""


def run(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def test_arrays_of_one_frame_lie_where_those_of_the_last_one_lay() -> None:
    pages = 10 * (3 << 20) // PAGE
    # A frame's worth of pages once, and hardly any for the nineteen frames after it.
    assert int(run(FAULTS, "kept")) < 2 * pages
    assert int(run(FAULTS, "left alone")) > 4 * pages, "or the settings are not needed"


def test_garbage_is_still_collected() -> None:
    run(GARBAGE)
