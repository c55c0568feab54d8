"""A circuit breaker for the database, and the classification of database errors."""

import math
import threading
from time import monotonic
from typing import Final

import psycopg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tokenapp.db.deadline import REQUEST_BUDGET, DatabaseUnavailableError

_PROBE_INTERVAL: Final = 1.0
_NOTICED_WITHIN: Final = 10.0


def is_fault(error: BaseException) -> bool:
    """Return whether `error` means that the database is unavailable or overloaded."""
    if isinstance(error, DBAPIError):
        return not isinstance(error, IntegrityError | DataError)
    return isinstance(error, PoolTimeoutError | psycopg.OperationalError | DatabaseUnavailableError)


def is_file_locked(error: BaseException) -> bool:
    """Return whether another process holds SQLite's file, which delays all writes.

    A lock of PostgreSQL's is held on some rows only, so it says nothing about other writes.
    """
    return isinstance(error, DBAPIError) and "database is locked" in str(error.orig)


class Breaker:
    """While a dependency is unavailable, let one caller a second try it.

    Without it, each thread would wait out its own time limit in turn.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tripped_at = -math.inf
        self.retry_at: float | None = None  # None while the breaker is closed
        self._suspected = False
        self._outage: tuple[float, float] | None = None
        self._ongoing = False

    def check(self) -> None:
        """Raise DatabaseUnavailableError if a call made now would be rejected."""
        retry_at = self.retry_at
        if retry_at is not None and monotonic() < retry_at:
            raise DatabaseUnavailableError("the database did not answer a moment ago")

    def admit(self) -> None:
        """Raise DatabaseUnavailableError unless the breaker is closed or a probe is due."""
        if self.retry_at is None:
            return
        with self._lock:
            self.check()
            if self.retry_at is not None:
                self.retry_at = monotonic() + REQUEST_BUDGET + _PROBE_INTERVAL

    def trip(self) -> None:
        """Open the breaker: there was no answer in time."""
        self.tripped_at = monotonic()
        self.retry_at = self.tripped_at + _PROBE_INTERVAL

    def suspect(self) -> None:
        """Note that one request got no answer in time, which may be its own fault."""
        self._suspected = True

    def take_suspicion(self) -> bool:
        """Return whether to make sure now with a fresh connection; true for one caller."""
        if not self._suspected:
            return False
        with self._lock:
            suspected, self._suspected = self._suspected, False
        return suspected

    def close(self) -> None:
        """Close the breaker: there was an answer."""
        self.retry_at = None

    @property
    def in_outage(self) -> bool:
        """Whether the last thing noted is a call that got no answer."""
        return self._ongoing

    def note_outage(self, asked_at: float, *, over: bool = False) -> None:
        """Record that a call made at `asked_at` got no answer, or a late one if `over`."""
        with self._lock:
            began, ended = self._outage or (asked_at, asked_at)
            if not self._ongoing and asked_at > ended + REQUEST_BUDGET:
                began = asked_at
            self._outage = (min(began, asked_at), monotonic())
            self._ongoing = not over

    def note_answer(self) -> None:
        """Record an answer, which ends an outage if there was one."""
        self.retry_at = None
        if self._ongoing:
            with self._lock:
                if self._outage is not None:
                    began, noticed = self._outage
                    self._outage = (began, min(monotonic(), noticed + _NOTICED_WITHIN))
                self._ongoing = False

    def was_away(self, since: float, until: float) -> bool:
        """Return whether an outage began by `since` s ago and ended within `until` s."""
        if self._outage is None:
            return False
        now = monotonic()
        began, ended = self._outage
        return now - since >= began - REQUEST_BUDGET and now - ended <= until
