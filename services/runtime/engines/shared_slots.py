"""Memory that another process of this machine reads: a file of /dev/shm, in slots of one size."""

from __future__ import annotations

import mmap
import os
import secrets
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.runtime.shared_memory import SHARED_MEMORY, create_owned, owned_by_nobody

NAME_PREFIX = "perception_input_"


class SharedSlots:
    """A bounded number of places for tensors, in a file that its owner alone may read.

    Belongs to one thread.
    """

    def __init__(self, slots: int, slot_bytes: int, folder: Path = SHARED_MEMORY) -> None:
        """Raises `OSError` where `folder` is not there, may not be written to or has not that much room."""
        self.size = slots * slot_bytes
        self.slot_bytes = slot_bytes
        self._path, self._descriptor = create_owned(lambda: folder / f"{NAME_PREFIX}{secrets.token_hex(8)}")
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
        with owned_by_nobody(path) as left_over:
            if left_over:
                path.unlink(missing_ok=True)
                removed += 1
    return removed
