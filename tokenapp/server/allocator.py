"""Memory that the C library holds for us: where it takes it from, and when it gives it back to the system.

A password's hash takes a block of 19 MiB. glibc keeps freed blocks of that size, which is good within a burst of
sign-ins (a fresh one makes a hash 40 % dearer), and it keeps them for ever, two in each worker, which is not.
Elsewhere (musl, macOS) there is nothing to set, and nothing is done.
"""

import ctypes
import sys
from typing import Any, Final

# From glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGEST: Final = 32 << 20  # that glibc lets the second be


def set_up() -> None:
    """Have all memory taken from one arena, before there are threads: only that one can be trimmed at its end.

    Blocks stay in it when they are freed, until they are given back: left to itself, glibc would do that at times.
    """
    mallopt = _function("mallopt")
    if mallopt and _function("malloc_trim"):
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, 4 * _LARGEST)


def give_back() -> None:
    """Return to the system what is free."""
    trim = _function("malloc_trim")
    if trim:
        trim(0)


def _function(name: str) -> Any:
    """Return a function of the C library, if it has it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
