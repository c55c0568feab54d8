"""The lockout of accounts: a growing wait after failed attempts.

An attempt is counted as failed before it is checked, and cleared if it succeeds. So concurrent guesses, over any number
of workers, get no more attempts than the limit, and a crash does not reset it. Each worker handles the attempts on one
account in turn, so that concurrent sign-ins with the right password do not count as failures of each other.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import db, errors
from tokenapp.encryption import keyed_digest
from tokenapp.models import Throttle

Purpose = Literal["password", "session", "code", "session code"]
FREE_FAILURES: Final = 4
LOCK_AFTER: Final = 100
FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(hours=1)
LOCK_TIME: Final = timedelta(hours=24)
PRUNE_BATCH: Final = 1000
# Part of the stored digests: never change one. None begins with another: a name could have the digest of another
# purpose then.
_LABELS: Final[Mapping[Purpose, str]] = {
    "password": "throttle ",
    "session": "session throttle ",
    "code": "code throttle ",
    "session code": "session code throttle ",
}
_DOUBLINGS: Final = range(FREE_FAILURES + 1, FREE_FAILURES + 9)
_LONGEST_TURN: Final = 2.0
_locks: Final = [threading.Lock() for _ in range(64)]


class State(NamedTuple):
    """The consecutive failures on an account, and until when attempts are rejected."""

    failures: int
    locked_until: datetime | None


def wait_after(failures: int) -> timedelta:
    """Return the wait after consecutive failures: 30 s, doubling up to an hour."""
    if failures <= FREE_FAILURES:
        return timedelta(0)
    doublings: int = min(failures, _DOUBLINGS[-1]) - _DOUBLINGS[0]
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Wait up to two seconds for this process's other attempts on the account."""
    lock = _locks[hash(name) % len(_locks)]
    held = lock.acquire(timeout=_LONGEST_TURN)
    try:
        yield
    finally:
        if held:
            lock.release()


def count_attempt(purpose: Purpose, name: str, now: datetime) -> int:
    """Count an attempt on an account, existing or not, before it is checked.

    Passwords given inside a live session count against the session, not the account. So the guesses of strangers cannot
    keep the owner from proving their password.

    Args:
        name: the canonical user name or, for attempts inside a session, the session id.

    Returns:
        The number of consecutive attempts, including this one.

    Raises:
        errors.TooManyAttempts: it is too early, or the account is locked for 24 hours after 100 consecutive failures.
    """
    account = _account(purpose, name)
    parameters = {"account": account, "now": now, "reopened": now - LOCK_TIME}
    parameters |= {f"wait_{failures}": now - wait_after(failures) for failures in _DOUBLINGS}
    if counted := db.execute_now(_counting(db.current().engine.dialect.name), parameters):
        return int(counted[0][0])
    locked_until = state(purpose, name, now).locked_until
    wait = locked_until - now if locked_until else timedelta(seconds=1)
    raise errors.TooManyAttempts(reason="account", retry_after=max(1, -(-wait // timedelta(seconds=1))))


def state(purpose: Purpose, name: str, now: datetime) -> State:
    """Return the state of an account."""
    own = Throttle.account == _account(purpose, name)
    rows = db.execute_now(sa.select(Throttle.failures, Throttle.last_failed_at).where(own))
    if not rows:
        return State(0, None)
    failures, last = rows[0].failures, rows[0].last_failed_at
    ends_at = last + (LOCK_TIME if failures >= LOCK_AFTER else wait_after(failures))
    return State(failures, ends_at if ends_at > now else None)


def undo_attempt(purpose: Purpose, name: str, failures: int, now: datetime) -> None:
    """Undo the attempt counted as number `failures`, which was not checked.

    The next attempt is allowed at once, as this one was. If others were counted since, theirs stay.
    """
    this = (Throttle.account == _account(purpose, name), Throttle.failures == failures)
    before = {"failures": failures - 1, "last_failed_at": now - wait_after(failures - 1)}
    db.execute_now(sa.update(Throttle).where(*this).values(before))


def clear(purpose: Purpose, name: str) -> None:
    """Clear the failures on an account after a successful attempt."""
    db.execute_now(clearing(purpose, name))


def clearing(purpose: Purpose, name: str) -> sa.Delete:
    """Return the statement that clears the failures on an account."""
    return sa.delete(Throttle).where(Throttle.account == _account(purpose, name))


def prune(now: datetime, keep: timedelta) -> int:
    """Delete counts whose last failure is older than `keep`; return how many.

    Counts are kept for at least the time of a lock, so that no wait is shortened.
    """
    old = (Throttle.last_failed_at < now - max(keep, LOCK_TIME),)
    page = sa.select(Throttle.account).where(*old).order_by(Throttle.account).limit(PRUNE_BATCH)
    deleted, last = 0, ""
    while accounts := [row[0] for row in db.execute_now(page.where(Throttle.account > last))]:
        last = accounts[-1]
        batch = sa.delete(Throttle).where(Throttle.account.in_(accounts), *old).returning(Throttle.account)
        deleted += len(db.execute_now(batch))
    return deleted


def _account(purpose: Purpose, name: str) -> str:
    """Return the keyed digest of an account.

    Names are not stored, because people type passwords into the name field.
    """
    return keyed_digest(_LABELS[purpose] + name)


@cache
def _counting(dialect: str) -> sa.Executable:
    """Return the statement that counts an attempt if one is allowed now."""
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    waits = {failures: bindparam(f"wait_{failures}", type_=db.Instant()) for failures in _DOUBLINGS}
    longest = waits.pop(_DOUBLINGS[-1])
    due = sa.case(*((Throttle.failures == failures, wait) for failures, wait in waits.items()), else_=longest)
    is_due = sa.or_(Throttle.failures <= FREE_FAILURES, Throttle.last_failed_at <= due)
    locked = Throttle.failures >= LOCK_AFTER
    reopened = sa.and_(locked, Throttle.last_failed_at <= bindparam("reopened", type_=db.Instant()))
    counted = sa.case((locked, 1), else_=Throttle.failures + 1)
    first = {"account": bindparam("account"), "failures": 1, "last_failed_at": bindparam("now", type_=db.Instant())}
    statement: sa.Executable = (
        insert(Throttle)
        .values(first)
        .on_conflict_do_update(
            index_elements=[Throttle.account],
            set_={"failures": counted, "last_failed_at": bindparam("now", type_=db.Instant())},
            where=sa.or_(reopened, sa.and_(sa.not_(locked), is_due)),
        )
        .returning(Throttle.failures)
    )
    return statement
