"""Work that goes on beside a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def in_threads(*loops: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs each loop in a thread of its own, and ends them with the block by the event that each is given.

    What a loop raises is raised at the end.
    """
    over = threading.Event()
    with ThreadPoolExecutor(len(loops)) as threads:
        running = [threads.submit(loop, over) for loop in loops]
        try:
            yield
        finally:
            over.set()
    for one in running:
        one.result()
