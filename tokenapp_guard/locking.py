"""Locks that do not outlive a fork."""

import os
import threading
from typing import Final
from weakref import WeakSet


class Locking:
    """An object with a lock, which is free in a forked process.

    A thread that holds it while another one forks does not exist in the new process, and would never release it there.
    """

    def __init__(self) -> None:
        self.renew_lock()
        _OBJECTS.add(self)

    def renew_lock(self) -> None:
        """Create the lock, or replace it in a process that has one thread."""
        self._lock = threading.Lock()


_OBJECTS: Final[WeakSet[Locking]] = WeakSet()


def _renew_locks() -> None:
    for each in _OBJECTS:
        each.renew_lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_locks)
