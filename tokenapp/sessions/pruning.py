"""Deleting sessions that ended long ago."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import sqlalchemy as sa

from tokenapp import config, db
from tokenapp.models import Session

PRUNE_BATCH: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def count_prunable(now: datetime, keep: timedelta) -> int:
    """Return how many sessions `prune` would delete."""
    return sum(len(page) for page in _prunable(now, keep))


def prune(now: datetime, keep: timedelta) -> Iterator[int]:
    """Delete sessions that ended more than `keep` ago; yield each batch's size.

    Revoked sessions are kept for at least the lifetime of an access token, which their row still invalidates. The
    batches are small, and others can write between them.
    """
    for page in _prunable(now, keep):
        began = monotonic()
        deleted = db.execute_now(sa.delete(Session).where(Session.id.in_(page)).returning(Session.id))
        db.yield_to_writers(began)
        yield len(deleted)


def _prunable(now: datetime, keep: timedelta) -> Iterator[Sequence[str]]:
    """Yield batches of ids of old sessions, along one index after the other.

    PostgreSQL reads the whole table if asked for both conditions at once, and all deleted entries if each batch starts
    at the beginning.
    """
    moment = now - max(keep, timedelta(seconds=config.current().access_lifetime + 60))
    not_listed = sa.or_(Session.revoked_at.is_(None), Session.revoked_at >= moment)
    for ended, which in ((Session.revoked_at, sa.true()), (Session.ends_at, not_listed)):
        last, sid = _EPOCH, ""
        page = sa.select(Session.id, ended.label("ended")).where(ended < moment, which).order_by(ended, Session.id)
        while rows := db.execute_now(
            page.where(ended >= last, sa.or_(ended > last, Session.id > sid)).limit(PRUNE_BATCH)
        ):
            last, sid = rows[-1].ended, rows[-1].id
            yield [row.id for row in rows]
