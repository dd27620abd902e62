"""Files that are replaced while a program runs, such as certificates and tokens."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")

_LOOK_SECONDS = 1.0

log = logging.getLogger(__name__)


class Watched(Generic[Value]):
    """What some files hold, read again when one of them changes; safe to share between threads.

    read: reads all of them. What it raises the first time is raised here. Later it is logged, and what was read before
    holds until the files change once more: a certificate and its key are not replaced in the same moment.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], Value]) -> None:
        self._files = tuple(files)
        self._read = read
        self._lock = Lock()
        self._seen = self._look()
        self._looked = time.monotonic()
        self._value = read()

    def value(self) -> Value:
        """What the files hold; the same object as before where they are the same. Looks once a second at most."""
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK_SECONDS:
                self._follow()
                self._looked = time.monotonic()
            return self._value

    def _follow(self) -> None:
        # Looked at before they are read: what changes meanwhile is seen the next time.
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        names = ", ".join(map(str, self._files))
        try:
            self._value = self._read()
        except (OSError, ValueError) as error:
            log.warning("files changed and cannot be used, what they held before holds: %s: %s", names, error)
        else:
            log.info("files changed and were read again: %s", names)

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_fingerprint, self._files))


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
