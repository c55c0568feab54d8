"""The one statement that decides every race over a refresh token, and the row that it leaves behind."""

import secrets
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from tokenapp import config, db
from tokenapp.models import Grant, Outcome, RefreshClaims, Session, User

_NOW: Final = bindparam("now", type_=db.Instant())
_OF_USER: Final = sa.select(User.id).where(User.id == Session.user_id, User.disabled_at.is_(None)).correlate(Session)
_USERNAME: Final = sa.select(User.username).where(User.id == Session.user_id).correlate(Session).scalar_subquery()
GRANTED: Final = (
    Session.id,
    Session.user_id,
    _USERNAME.label("username"),
    Session.current_jti,
    Session.generation,
    Session.created_at,
    Session.rotated_at,
    Session.expires_at,
    Session.ends_at,
    Session.authenticated_at,
)


def _rotation(*, single_use: bool) -> sa.UpdateBase:
    """Build the statement that decides every race: who finds the current jti in place, and long enough, moves it on."""
    idle_limit = bindparam("idle_limit", type_=db.Instant())
    rested = sa.or_(Session.rotated_at.is_(None), Session.rotated_at < bindparam("rested", type_=db.Instant()))
    return (
        sa.update(Session)
        .where(
            Session.id == bindparam("sid"),
            Session.current_jti == bindparam("jti"),
            sa.true() if single_use else rested,
            Session.revoked_at.is_(None),
            Session.expires_at > _NOW,
            sa.exists(_OF_USER),
        )
        .values(
            previous_jti=Session.current_jti,
            current_jti=bindparam("fresh_jti"),
            generation=Session.generation + 1,
            rotated_at=db.not_before(_NOW),
            expires_at=sa.case((Session.ends_at < idle_limit, Session.ends_at), else_=idle_limit),
        )
        .returning(*GRANTED)
    )


_ROTATE: Final = {single_use: db.Prepared(_rotation(single_use=single_use)) for single_use in (False, True)}
_READ: Final = db.Prepared(
    sa.select(*GRANTED, Session.previous_jti, Session.revoked_at, Session.revoked_reason, User.disabled_at)
    .join(User, User.id == Session.user_id)
    .where(Session.id == bindparam("sid"))
)


def rotate(claims: RefreshClaims, now: datetime, window: timedelta) -> Grant | None:
    """Rotate the token `claims` speaks of if it is current and has rested for `window`; None where it did not."""
    rows = db.run(statement(window), **parameters(claims, now, window))
    return grant("rotated", rows[0]) if rows else None


def statement(window: timedelta) -> db.Prepared:
    """Return the statement that rotates where the window is as long."""
    return _ROTATE[not window]


def parameters(claims: RefreshClaims, now: datetime, window: timedelta) -> dict[str, Any]:
    """Return what the statement is to be told, a fresh jti among it."""
    return {
        "sid": claims.sid,
        "jti": claims.jti,
        "fresh_jti": new_jti(),
        "now": now,
        "rested": now - window,
        "idle_limit": now + timedelta(seconds=config.current().refresh_lifetime),
    }


def read(sid: str) -> Any | None:
    """Return the row of the session `sid`, with what is known of its user."""
    rows = db.run(_READ, sid=sid)
    return rows[0] if rows else None


def is_recent(age: timedelta, window: timedelta) -> bool:
    """Whether a rotation of that age is in its window, which begins when an outage is over that hid the rotation."""
    return age <= window or db.was_away(age, window)


def grant(outcome: Outcome, row: Any) -> Grant:
    """Say what a row leads to."""
    return Grant(
        outcome,
        sid=row.id,
        user_id=row.user_id,
        username=row.username,
        jti=row.current_jti,
        generation=row.generation,
        issued_at=row.rotated_at or row.created_at,
        expires_at=row.expires_at,
        ends_at=row.ends_at,
        authenticated_at=row.authenticated_at,
    )


def new_jti() -> str:
    """Make the id of a refresh token: 128 random bits."""
    return secrets.token_urlsafe(16)
