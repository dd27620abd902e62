"""Files in memory that processes of one machine share, and who they belong to.

An owner holds a lock on its file for as long as it lives, however that ends; what nobody locks is left over.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  the place is the kernel's, not a temporary folder of ours


def create_owned(new_path: Callable[[], Path]) -> tuple[Path, int]:
    """A new file that this process owns and no other user may read: its path, and the descriptor that holds the lock.

    new_path: gives a path where nothing is. Raises `OSError` where no file can be made there.
    """
    while True:
        path = new_path()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        # Taken for a leftover in the moment before the lock.
        os.close(descriptor)


@contextmanager
def owned_by_nobody(path: Path) -> Iterator[bool]:
    """Whether a file is left over; then nobody else takes it for one in this block. Not another user's, or gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
