"""SQLite lets one transaction write at a time: how the threads of a process take turns, and share their commits.

Left to themselves they would meet at the file's lock, at which those who wait look again only after up to a tenth of a
second. And each commit waits for the disk: what has come to wait for its turn meanwhile is written with one.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from tokenapp.db.faults import DatabaseAwayError, time_left
from tokenapp.db.prepared import Call

_MOST_TOGETHER = 64


class Turns:
    """The turns of one process at one file; other processes are met at the file's lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[_Place] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be the only one that writes, until the end of the block.

        Raises:
            DatabaseAwayError: the time of the request was over before its turn came.
        """
        left = time_left()
        if not self._lock.acquire(timeout=-1 if left is None else max(0.0, left)):
            raise DatabaseAwayError("others were writing for all of the request's time")
        try:
            yield
        finally:
            self._lock.release()

    def share(self, call: Call, carry_out: Callable[[Sequence[Call]], None]) -> None:
        """Carry out `call`, together with those of others who are waiting; return once it is committed.

        Raises:
            DatabaseAwayError: the time of the request was over; if another had taken it along, it may yet be committed.
                Or another took it along, and failed: then none was committed.
        """
        place = _Place(call)
        self._waiting.append(place)
        try:
            with self.turn():
                while not place.over:
                    self._serve(carry_out)
        except DatabaseAwayError:
            with suppress(ValueError):
                self._waiting.remove(place)
            raise
        if place.fault is not None:
            raise DatabaseAwayError("what was written together could not be committed") from place.fault

    def _serve(self, carry_out: Callable[[Sequence[Call]], None]) -> None:
        """Carry out the calls of those who wait, from the front."""
        places: list[_Place] = []
        with suppress(IndexError):
            while len(places) < _MOST_TOGETHER:
                places.append(self._waiting.popleft())
        fault: BaseException | None = None
        try:
            carry_out([place.call for place in places])
        except BaseException as raised:
            fault = raised
            raise
        finally:
            for place in places:
                place.fault, place.over = fault, True


class _Place:
    """Somebody's place in the queue."""

    __slots__ = ("call", "fault", "over")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.fault: BaseException | None = None
        self.over = False
