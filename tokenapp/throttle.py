"""Failed attempts per account: how long to wait before the next password is looked at.

An attempt is counted as a failure before the password is hashed, and taken back when it was right. So any number of
guesses at once, over any number of workers, buys no more than the limit; and a crash forgets nothing. Lest people who
sign in at the same moment count as one another's failures, each worker takes the attempts on an account in turn.
"""

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import config, db, errors
from tokenapp.models import Throttle

FREE_FAILURES: Final = 4
LOCK_AFTER: Final = 100
FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(hours=1)
PRUNE_BATCH: Final = 1000
_DOUBLINGS: Final = range(FREE_FAILURES + 1, FREE_FAILURES + 9)
_LONGEST_TURN: Final = 2.0
_turns: Final = [threading.Lock() for _ in range(64)]


def wait_after(failures: int) -> timedelta:
    """Return the wait that the `failures`-th consecutive failure brings: none, then 30 s, doubling up to an hour."""
    if failures <= FREE_FAILURES:
        return timedelta(0)
    doublings: int = min(failures, _DOUBLINGS[-1]) - _DOUBLINGS[0]
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


@contextmanager
def turn(name: str) -> Iterator[None]:
    """Let the block wait for those of this process that are about the same account, two seconds at the longest."""
    lock = _turns[hash(name) % len(_turns)]
    held = lock.acquire(timeout=_LONGEST_TURN)
    try:
        yield
    finally:
        if held:
            lock.release()


def admit(name: str, now: datetime) -> int:
    """Count an attempt on the account `name` (in its one form), known or not, before the password is looked at.

    Returns how many there were in a row, this one included.

    Raises:
        errors.TooManyAttempts: it is too early, or there were 100 failures in a row and an operator must help.
    """
    account = _account(name)
    parameters = {"account": account, "now": now}
    parameters |= {f"wait_{failures}": now - wait_after(failures) for failures in _DOUBLINGS}
    if admitted := db.execute_now(_admission(db.db.engine.dialect.name), parameters):
        return int(admitted[0][0])
    rows = db.execute_now(sa.select(Throttle.failures, Throttle.last_failed_at).where(Throttle.account == account))
    wait = timedelta(seconds=1)
    if rows:
        failures, last = rows[0].failures, rows[0].last_failed_at
        wait = LONGEST_WAIT if failures >= LOCK_AFTER else last + wait_after(failures) - now
    seconds = str(max(1, -(-wait // timedelta(seconds=1))))
    raise errors.TooManyAttempts(reason="account", headers={"Retry-After": seconds})


def withdraw(name: str, failures: int, now: datetime) -> None:
    """Take back the attempt that `admit` counted as number `failures`, because the password was not looked at.

    The next one may follow at once, as this one could. Where others were counted meanwhile, theirs stands.
    """
    this = (Throttle.account == _account(name), Throttle.failures == failures)
    before = {"failures": failures - 1, "last_failed_at": now - wait_after(failures - 1)}
    db.execute_now(sa.update(Throttle).where(*this).values(before))


def forgive(name: str) -> None:
    """Forget the failures on the account `name`: the password was right."""
    db.execute_now(forgiving(name))


def forgiving(name: str) -> sa.Delete:
    """Make the statement that forgets the failures on the account `name`, for a transaction that has more to do."""
    return sa.delete(Throttle).where(Throttle.account == _account(name))


def prune(now: datetime, keep: timedelta) -> int:
    """Forget accounts whose last failure is longer ago than `keep`, but for those that are locked; return how many.

    A wait is never cut short: what is kept is kept for as long as the longest wait.
    """
    old = (Throttle.last_failed_at < now - max(keep, LONGEST_WAIT), Throttle.failures < LOCK_AFTER)
    page = sa.select(Throttle.account).where(*old).order_by(Throttle.account).limit(PRUNE_BATCH)
    deleted, last = 0, ""
    while accounts := [row[0] for row in db.execute_now(page.where(Throttle.account > last))]:
        last = accounts[-1]
        batch = sa.delete(Throttle).where(Throttle.account.in_(accounts), *old).returning(Throttle.account)
        deleted += len(db.execute_now(batch))
    return deleted


def _account(name: str) -> str:
    """Name an account in the table by a keyed digest: people type passwords into the wrong field."""
    key = config.current().secret_key.encode()
    return base64.urlsafe_b64encode(hmac.digest(key, b"throttle " + name.encode(), hashlib.sha256)).decode()


@cache
def _admission(dialect: str) -> sa.Executable:
    """Build the statement that counts an attempt if its time has come, and changes nothing if not."""
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    waits = {failures: bindparam(f"wait_{failures}", type_=db.Instant()) for failures in _DOUBLINGS}
    longest = waits.pop(_DOUBLINGS[-1])
    due = sa.case(*((Throttle.failures == failures, wait) for failures, wait in waits.items()), else_=longest)
    open_now = sa.or_(Throttle.failures <= FREE_FAILURES, Throttle.last_failed_at <= due)
    first = {"account": bindparam("account"), "failures": 1, "last_failed_at": bindparam("now", type_=db.Instant())}
    statement: sa.Executable = (
        insert(Throttle)
        .values(first)
        .on_conflict_do_update(
            index_elements=[Throttle.account],
            set_={"failures": Throttle.failures + 1, "last_failed_at": bindparam("now", type_=db.Instant())},
            where=sa.and_(Throttle.failures < LOCK_AFTER, open_now),
        )
        .returning(Throttle.failures)
    )
    return statement
