"""Retry transactions that PostgreSQL aborted because of other transactions.

PostgreSQL aborts transactions on deadlock and, at the SERIALIZABLE level, on conflicting access. Distributed databases
that speak its protocol do so as a matter of course.
"""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError

from tokenapp.db.deadline import deadline, time_left

_TRIES: Final = 8
_TRIES_OF_COMMANDS: Final = 40
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.25
_P = ParamSpec("_P")
_R = TypeVar("_R")


def is_conflict(error: BaseException) -> bool:
    """Return whether `error` aborted a transaction that may succeed when repeated."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected)


def retried(work: Callable[_P, _R]) -> Callable[_P, _R]:
    """Repeat `work`, which is one whole transaction, when it fails on a conflict.

    The pauses are random and double each time, so that the same transactions do not meet again. The last error is
    raised when the tries or the request's time are used up: a database fault, which is answered 503.
    """

    @wraps(work)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        longest = _FIRST_PAUSE
        for _ in range((_TRIES_OF_COMMANDS if deadline.get() is None else _TRIES) - 1):
            try:
                return work(*args, **kwargs)
            except (DBAPIError, psycopg.Error) as error:
                pause = random.uniform(0, longest)  # noqa: S311 -- spreads callers out; protects nothing
                left = time_left()
                if not is_conflict(error) or (left is not None and left < pause):
                    raise
            time.sleep(pause)
            longest = min(2 * longest, _LONGEST_PAUSE)
        return work(*args, **kwargs)

    return call
