"""How long a request may wait for the database, and what to do about one that does not answer."""

import math
import threading
from contextvars import ContextVar
from time import monotonic
from typing import Final

import psycopg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

REQUEST_BUDGET: Final = 3.0
SERVER_TIMEOUT_MS: Final = 2500
LONG_WAIT: Final = 1.0
_PROBE_INTERVAL: Final = 1.0
_NOTICED_WITHIN: Final = 10.0

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


class DatabaseAwayError(Exception):
    """The database did not answer a moment ago, and was not asked again."""


def start_budget() -> None:
    """Give the request that starts now its share of time for the database."""
    _deadline.set(monotonic() + REQUEST_BUDGET)


def end_budget() -> None:
    """Forget the limit: what this thread does next is another request's, or nobody's."""
    _deadline.set(None)


def time_left() -> float | None:
    """Return the seconds that the request may still wait; None outside of requests."""
    deadline = _deadline.get()
    return None if deadline is None else deadline - monotonic()


def is_fault(error: BaseException) -> bool:
    """Whether `error` means that the database is away, hung or overloaded, rather than that we asked nonsense."""
    if isinstance(error, DBAPIError):
        return not isinstance(error, IntegrityError | DataError)
    return isinstance(error, PoolTimeoutError | psycopg.OperationalError | DatabaseAwayError)


def lock_was_taken(error: BaseException) -> bool:
    """Whether `error` means that somebody else held a lock for longer than we wait for one."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return isinstance(original, psycopg.errors.LockNotAvailable) or "database is locked" in str(original)


class Breaker:
    """While something does not answer, lets one caller a second ask it; the others are refused at once.

    Without it each thread would wait out its own time limit in turn, and callers in the queue many of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.tripped_at = -math.inf
        self._retry_at: float | None = None
        self._outage: tuple[float, float] | None = None
        self._ongoing = False

    def look(self) -> None:
        """Raise DatabaseAwayError if whoever asks now would be refused."""
        retry_at = self._retry_at
        if retry_at is not None and monotonic() < retry_at:
            raise DatabaseAwayError("the database did not answer a moment ago")

    def admit(self) -> None:
        """Raise DatabaseAwayError unless an answer can be expected, or it is time to ask again."""
        if self._retry_at is None:
            return
        with self._lock:
            self.look()
            if self._retry_at is not None:
                self._retry_at = monotonic() + REQUEST_BUDGET + _PROBE_INTERVAL

    def trip(self) -> None:
        """Note that there was no answer in time."""
        self.tripped_at = monotonic()
        self._retry_at = self.tripped_at + _PROBE_INTERVAL

    def close(self) -> None:
        """Note that there was an answer."""
        self._retry_at = None

    def note_outage(self, asked_at: float, *, over: bool = False) -> None:
        """Remember that what was asked then got no answer or, if it is `over` now, a very late one."""
        with self._lock:
            began, ended = self._outage or (asked_at, asked_at)
            if not self._ongoing and asked_at > ended + REQUEST_BUDGET:
                began = asked_at
            self._outage = (min(began, asked_at), monotonic())
            self._ongoing = not over

    def note_answer(self) -> None:
        """Remember that the outage, if there was one, is over."""
        self._retry_at = None
        if self._ongoing:
            with self._lock:
                if self._outage is not None:
                    began, noticed = self._outage
                    self._outage = (began, min(monotonic(), noticed + _NOTICED_WITHIN))
                self._ongoing = False

    def was_away(self, since: float, until: float) -> bool:
        """Whether an outage is known that had begun `since` seconds ago and ended at most `until` seconds ago."""
        if self._outage is None:
            return False
        now = monotonic()
        began, ended = self._outage
        return now - since >= began - REQUEST_BUDGET and now - ended <= until
