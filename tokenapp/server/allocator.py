"""Configure glibc's allocator, and return the memory of password hashing.

Hashing a password takes a block of 19 MiB. By default glibc keeps freed blocks of that size without a time limit, two
in each worker. Keeping them pays off within a burst of sign-ins; after the burst they only waste memory. After sign-ins
four workers take 200 MB, and 274 MB without this module. With a low threshold for mapped blocks instead, the standard
recipe, they take 193 MB, and a sign-in takes 32 % more CPU. On other C libraries (musl, macOS) the module does nothing.
"""

import ctypes
import sys
from typing import Any, Final

# From glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGEST: Final = 32 << 20  # the largest value that glibc accepts for M_MMAP_THRESHOLD


def set_up() -> None:
    """Make glibc allocate from one arena and keep freed blocks in it.

    Call it before the first thread starts. One arena, because glibc trims only the end of the main arena. Freed blocks
    stay allocated until `give_back`; by default glibc returns some of them at times of its own choice.
    """
    mallopt = _function("mallopt")
    if mallopt and _function("malloc_trim"):
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, 4 * _LARGEST)


def give_back() -> None:
    """Return the free memory to the system."""
    trim = _function("malloc_trim")
    if trim:
        trim(0)


def _function(name: str) -> Any:
    """Return a function of the C library, or None if it does not exist."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
