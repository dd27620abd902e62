"""How a service's process keeps its memory."""

from __future__ import annotations

import ctypes
import gc
import sys

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 32 << 20
"""Bytes of an allocation that comes from the heap; glibc takes no larger number."""
_MOST_KEPT = 64 << 20
"""Bytes at the heap's end that are kept when nothing uses them."""

_NEW_OBJECTS = 10_000
"""Containers made and not freed before Python looks for cycles among them; 700 where not set."""


def keep_large_arrays() -> None:
    """Lets glibc keep the memory of one frame's arrays for the next frame's.

    Left alone, it may give every array of megabytes back to the kernel and ask for it anew, page by page, which costs
    more than the work on the pixels. One arena holds them all, so that threads do not each keep their own. Does nothing
    where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
        mallopt(_ARENA_MAX, 1)


def settle() -> None:
    """Leaves what the process has built so far out of Python's search for garbage.

    Modules and servicers live as long as the process, and looking through all of them again and again costs more than
    the requests do where many streams are open.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
