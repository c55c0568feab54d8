"""The sessions that may hold valid tokens signed by a key."""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import config, db
from tokenapp.models import Session, SigningKey


def sessions_signed_by(reader: orm.Session, row: SigningKey, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition for sessions that may have valid tokens signed by `row`.

    It depends on their timestamps only. A token repeated within the grace period is signed by the key that is active
    then. That key may have become active after the rotation. A worker may sign with a former key for one more
    revocation delay.
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
        return sa.false()  # REFRESH_TOKEN_SECRET signs instead; which sessions began before it was set is unknown
    issued = sa.func.coalesce(Session.rotated_at, Session.created_at, type_=db.Instant())
    until = (successor or now) + timedelta(seconds=settings.revocation_delay)
    return sa.and_(Session.revoked_at.is_(None), Session.expires_at > now, issued >= since, issued < until)


def count_sessions(reader: orm.Session, which: sa.ColumnElement[bool]) -> int:
    """Return the number of sessions that match `which`."""
    return reader.scalar(sa.select(sa.func.count()).select_from(Session).where(which)) or 0
