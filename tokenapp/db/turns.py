"""SQLite lets one transaction write at a time: how the threads of a process take turns, and share their commits.

Left to themselves they would meet at the file's lock, at which those who wait look again only after up to a tenth of a
second. And each commit waits for the disk: what has come to wait for its turn meanwhile is written with one.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Final

from tokenapp.db.faults import DatabaseAwayError, time_left
from tokenapp.db.prepared import Call

_RESERVE: Final = 1.0  # seconds of the request that are kept for the write itself, which may wait for other processes


class Turns:
    """The turns of one process at one file, first come, first served; other processes are met at the file's lock."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()  # held for moments only
        self._holder: int | None = None
        self._waiting: deque[_Ticket] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be the only one that writes, until the end of the block.

        Raises:
            DatabaseAwayError: the time of the request was over before its turn came.
        """
        self._wait(_Ticket())
        try:
            yield
        finally:
            self._pass_on()

    def share(self, call: Call, carry_out: Callable[[Sequence[Call]], None]) -> None:
        """Carry out `call`, together with those of others who are waiting; return once it is committed.

        What `carry_out` raises rises where it was called; nothing was committed then, for anybody.

        Raises:
            DatabaseAwayError: the time of the request was over; if another had taken it along, it may yet be committed.
                Or another took it along, and failed.
        """
        ticket = _Ticket(call)
        self._wait(ticket)
        if ticket.over:
            if ticket.fault is not None:
                raise DatabaseAwayError("what was written together was not committed") from ticket.fault
            return
        try:
            ticket.check()
            self._serve(call, carry_out)
        finally:
            self._pass_on()

    def _wait(self, ticket: "_Ticket") -> None:
        """Return when the turn is the ticket's, or when another has seen to it."""
        with self._mutex:
            if self._holder is None:
                self._holder = threading.get_ident()
                return
            if self._holder == threading.get_ident():
                raise RuntimeError("a write within a write would wait for itself")
            self._waiting.append(ticket)
        called = ticket.called.acquire(timeout=ticket.patience())
        if not called:
            with self._mutex:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                else:  # in this very moment; or another is carrying it out, and its end cannot be waited for
                    called = ticket.called.acquire(blocking=False)
        if not called:
            raise DatabaseAwayError("others were writing for all of the request's time")
        if not ticket.over:
            self._holder = threading.get_ident()

    def _pass_on(self) -> None:
        """Let the next one have the turn."""
        with self._mutex:
            self._holder = None
            if self._waiting:
                self._holder = _NOBODY_YET
                self._waiting.popleft().called.release()

    def _serve(self, call: Call, carry_out: Callable[[Sequence[Call]], None]) -> None:
        """Carry out `call` and those of others who wait and have time left."""
        with self._mutex:
            along = [ticket for ticket in self._waiting if ticket.call is not None and not ticket.is_late()]
            self._waiting = deque(ticket for ticket in self._waiting if ticket not in along)
        fault: BaseException | None = None
        try:
            carry_out([call, *(ticket.call for ticket in along if ticket.call is not None)])
        except BaseException as raised:
            fault = raised
            raise
        finally:
            for ticket in along:
                ticket.fault, ticket.over = fault, True
                ticket.called.release()


_NOBODY_YET: Final = 0  # the turn is promised to a thread that is not awake yet


class _Ticket:
    """Somebody's place in the queue, with a call that others may take along, or without."""

    __slots__ = ("_deadline", "call", "called", "fault", "over")

    def __init__(self, call: Call | None = None) -> None:
        left = time_left()
        self._deadline = None if left is None else monotonic() + left
        self.call = call
        self.called = threading.Lock()  # free once the turn has come, or another has carried the call out
        self.called.acquire()
        self.fault: BaseException | None = None
        self.over = False

    def patience(self) -> float:
        """Return for how many seconds to wait for the turn, half of a short rest; -1 is for ever."""
        if self._deadline is None:
            return -1
        left = max(0.0, self._deadline - monotonic())
        return max(left - _RESERVE, left / 2)

    def is_late(self) -> bool:
        """Whether the time of the request is over, and whoever asked has gone."""
        return self._deadline is not None and monotonic() >= self._deadline

    def check(self) -> None:
        """Refuse if it is late: as after a stop of this process."""
        if self.is_late():
            raise DatabaseAwayError("the time of the request is over")
