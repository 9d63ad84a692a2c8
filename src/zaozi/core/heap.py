"""How this process holds its memory: what a tensor frees, the next one finds."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # mallopt(3)


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the process instead of giving it back; True where that was granted.

    By default glibc maps every large block anew, and the kernel clears each of its pages at the first touch; without that
    two cores draw a fifth more glyphs a second. Up to 2 GiB freed at the heap's top stay. Nothing is done but on glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    asked = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 256 * 2**20}
    return all(mallopt(name, value) for name, value in asked.items())


def give_back_freed_memory() -> bool:
    """Give freed memory back to the system; True where some was. Nothing is done but on glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return trim is not None and bool(trim(0))
