"""How the process treats the C libraries below it."""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST_KEPT = 32 << 20
"""Bytes of an allocation that comes from the heap; glibc takes no larger number."""
_MOST_KEPT = 64 << 20
"""Bytes at the heap's end that are kept when nothing uses them."""


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
