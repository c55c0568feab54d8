"""Transactions that a database gives up only for what others did at the same moment: done again, a few times.

PostgreSQL does so when it finds a deadlock and, where its transactions are set to be SERIALIZABLE, instead of letting
one wait for another; engines that speak its protocol over many machines do so every day.
"""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

import psycopg
from sqlalchemy.exc import DBAPIError

from tokenapp.db.faults import time_left

_TRIES: Final = 8
_PATIENT_TRIES: Final = 40  # of a command, which nobody else waits for
_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.25
_P = ParamSpec("_P")
_R = TypeVar("_R")


def is_conflict(error: BaseException) -> bool:
    """Whether `error` means that a transaction left nothing behind and may succeed if it is done again."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected)


def retried(work: Callable[_P, _R]) -> Callable[_P, _R]:
    """Make `work`, which is one transaction and all that leads to it, be done again when it met a conflict.

    The pauses are random and double, so that those who met do not meet again. Whoever has lost every time, or has no
    time left, is told of it by the last error, which is a fault like others: 503, and nothing was written.
    """

    @wraps(work)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        longest = _FIRST_PAUSE
        for _ in range((_PATIENT_TRIES if time_left() is None else _TRIES) - 1):
            try:
                return work(*args, **kwargs)
            except (DBAPIError, psycopg.Error) as error:
                pause = random.uniform(0, longest)  # noqa: S311 -- spreads callers out; guards nothing
                left = time_left()
                if not is_conflict(error) or (left is not None and left < pause):
                    raise
            time.sleep(pause)
            longest = min(2 * longest, _LONGEST_PAUSE)
        return work(*args, **kwargs)

    return call
