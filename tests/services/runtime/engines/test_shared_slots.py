"""Slots in shared memory, and what a process leaves of them that is killed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.runtime.engines.shared_slots import NAME_PREFIX, SharedSlots, remove_leftovers
from services.runtime.shared_memory import SHARED_MEMORY

HOLDER = """
import sys, time
from pathlib import Path
from services.runtime.engines.shared_slots import SharedSlots
slots = SharedSlots(2, 100, Path(sys.argv[1]))
print(slots.name, flush=True)
time.sleep(600)
"""


def test_what_is_put_lies_in_the_file_at_its_slot(tmp_path: Path) -> None:
    slots = SharedSlots(3, 4096, tmp_path)
    mirrored = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::-1]
    slot = slots.put(mirrored)
    assert slot is not None
    contents = (tmp_path / slots.name).read_bytes()
    assert len(contents) == slots.size == 3 * 4096
    assert contents[slot * 4096 :][:96] == mirrored.tobytes()
    slots.close()


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    slots = SharedSlots(1, 10, tmp_path)
    assert stat.S_IMODE((tmp_path / slots.name).stat().st_mode) == 0o600
    slots.close()


def test_neither_more_than_the_slots_nor_larger_than_one(tmp_path: Path) -> None:
    slots = SharedSlots(2, 100, tmp_path)
    tensor = np.zeros(100, np.uint8)
    assert slots.put(np.zeros(101, np.uint8)) is None
    taken = [slots.put(tensor), slots.put(tensor)]
    assert sorted(taken) == [0, 1]  # type: ignore[type-var]
    assert slots.put(tensor) is None
    slots.give_back(1)
    assert slots.put(tensor) == 1
    slots.close()


def test_closing_removes_the_file_and_leaves_the_memory_to_its_users(tmp_path: Path) -> None:
    slots = SharedSlots(2, 100, tmp_path)
    slots.close()
    assert not list(tmp_path.iterdir())
    slot = slots.put(np.ones(100, np.uint8))  # a request at work
    assert slot is not None
    slots.give_back(slot)


def test_memory_that_is_not_to_be_had_is_refused_at_once(tmp_path: Path) -> None:
    """Not later, when a write to it would end the process."""
    everything = os.statvfs(SHARED_MEMORY)
    with pytest.raises(OSError, match="No space left"):
        SharedSlots(8, everything.f_blocks * everything.f_frsize)
    with pytest.raises(FileNotFoundError):
        SharedSlots(1, 1, tmp_path / "nowhere")


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    ours = SharedSlots(1, 10, tmp_path)
    other = tmp_path / "perception_of_another_kind"
    other.touch()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        theirs = tmp_path / holder.stdout.readline().strip()
        assert theirs.name.startswith(NAME_PREFIX)
        assert remove_leftovers(tmp_path) == 0
    finally:
        holder.kill()
        holder.communicate()
    assert theirs.exists()
    assert remove_leftovers(tmp_path) == 1
    assert set(tmp_path.iterdir()) == {other, tmp_path / ours.name}
    ours.close()
