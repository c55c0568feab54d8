"""Whose tokens a key signed: nobody keeps a list, but a session's times tell which keys it can have met."""

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import config, db, events
from tokenapp.models import Session, SigningKey

BATCH: Final = 1000


def of(reader: orm.Session, row: SigningKey, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition for live sessions that may have live tokens that `row` signed.

    A token given again in the grace period is signed by the key of that moment, which may have begun after the rotation
    that the token comes from; and a worker signs with a former key for one revocation delay more.
    """
    settings = config.current()
    signed = sa.or_(SigningKey.retired_at.is_(None), SigningKey.retired_at > SigningKey.activates_at)
    later = (SigningKey.use == row.use, SigningKey.serial > row.serial, SigningKey.activates_at <= now, signed)
    successor = reader.scalar(sa.select(sa.func.min(SigningKey.activates_at, type_=db.Instant())).where(*later))
    grace = timedelta(seconds=settings.refresh_grace)
    since = row.activates_at - grace
    if row.use == "access":
        since = max(since, now - timedelta(seconds=settings.access_lifetime) - grace)
    elif settings.refresh_token_secret:
        return sa.false()  # that one signs, and nothing tells which sessions began before it did
    issued = sa.func.coalesce(Session.rotated_at, Session.created_at, type_=db.Instant())
    until = (successor or now) + timedelta(seconds=settings.revocation_delay)
    return sa.and_(Session.revoked_at.is_(None), Session.expires_at > now, issued >= since, issued < until)


def count(reader: orm.Session, which: sa.ColumnElement[bool]) -> int:
    """Count the sessions `which`."""
    return reader.scalar(sa.select(sa.func.count()).select_from(Session).where(which)) or 0


def end(which: sa.ColumnElement[bool], now: datetime) -> None:
    """End the sessions `which`, in batches: their tokens are dead already, and there may be a million."""
    page = sa.select(Session.id).where(which).order_by(Session.id).limit(BATCH)
    last = ""
    while rows := db.execute_now(page.where(Session.id > last)):
        last = rows[-1].id
        events.end_each([row.id for row in rows], "key_dropped", now)
