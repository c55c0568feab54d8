"""The rate limit of unknown access keys per client address.

A well-formed key that does not exist costs a database read. Each process remembers the clients that have reached the
limit of the minute, so that their further keys cost no statement. Keys that exist are not counted.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from tokenapp import db, errors
from tokenapp.throttle import rate_limit

_REMEMBERED: Final = 1000


@dataclass
class _Blocked:
    """The clients whose keys one process does not read, and until when."""

    until: dict[str, datetime] = field(default_factory=dict)


def check(client: str, now: datetime) -> None:
    """Check that a client has not reached the limit, without a statement.

    Raises:
        errors.TooManyAttempts
    """
    until = db.per_process(_Blocked).until.get(client)
    if until is not None and now < until:
        raise errors.TooManyAttempts(reason="unknown keys", retry_after=int((until - now).total_seconds()) + 1)


def count(client: str, now: datetime) -> None:
    """Count one unknown key of a client.

    Raises:
        errors.TooManyAttempts: it was one too many.
    """
    try:
        rate_limit.count_unknown_key(client)
    except errors.TooManyAttempts as error:
        blocked = db.per_process(_Blocked).until
        if len(blocked) >= _REMEMBERED:
            blocked.clear()
        blocked[client] = now + timedelta(seconds=error.retry_after or 1)
        raise
