"""Memory that another process of this machine reads: a file of /dev/shm, in slots of one size."""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  the place is the kernel's, not a temporary folder of ours
NAME_PREFIX = "perception_input_"


class SharedSlots:
    """A bounded number of places for tensors, in a file that its owner alone may read.

    The file is locked as long as this process lives, however that ends; what nobody locks is left over, see
    `remove_leftovers`. Belongs to one thread.
    """

    def __init__(self, slots: int, slot_bytes: int, folder: Path = SHARED_MEMORY) -> None:
        """Raises `OSError` where `folder` is not there, may not be written to or has not that much room."""
        self.size = slots * slot_bytes
        self.slot_bytes = slot_bytes
        self._path, self._descriptor = _create(folder)
        try:
            # All of it now: a write to memory that is not to be had would end the process.
            os.posix_fallocate(self._descriptor, 0, self.size)
            memory = mmap.mmap(self._descriptor, self.size)
        except OSError:
            self.close()
            raise
        self._slots = np.frombuffer(memory, np.uint8).reshape(slots, slot_bytes)
        self._free = list(range(slots))

    @property
    def name(self) -> str:
        """Name of the file, which nobody can guess."""
        return self._path.name

    def put(self, tensor: NDArray[np.generic]) -> int | None:
        """Copies a tensor into a free slot and returns which; None where none is free or it does not fit."""
        if not self._free or tensor.nbytes > self.slot_bytes:
            return None
        slot = self._free.pop()
        place = self._slots[slot, : tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)
        np.copyto(place, tensor)
        return slot

    def give_back(self, slot: int) -> None:
        """Frees a slot."""
        self._free.append(slot)

    def close(self) -> None:
        """Removes the file. The memory itself stays with those who have it mapped."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def remove_leftovers(folder: Path = SHARED_MEMORY) -> int:
    """Removes the files of processes that were killed. Returns how many there were."""
    removed = 0
    for path in folder.glob(f"{NAME_PREFIX}*"):
        with _locked_if_left(path) as left:
            if left:
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _create(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{NAME_PREFIX}{secrets.token_hex(8)}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        # Taken for a leftover in the moment before the lock.
        os.close(descriptor)


@contextmanager
def _locked_if_left(path: Path) -> Iterator[bool]:
    """Whether nobody locks a file; then this block does. Not where it is another user's, or gone by now."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except (FileNotFoundError, PermissionError):
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)
