"""Revoking sessions, for every reason, each with an audit event."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, db
from tokenapp.models import Session
from tokenapp.sessions.authorization import authorize

Reason = Literal[
    "logout",
    "replaced",
    "reuse",
    "password_changed",
    "password_reset",
    "address_change_undone",
    "user_disabled",
    "user_deleted",
    "operator",
    "ended_by_user",
    "signed_out_everywhere",
    "revoked_by_client",
    "key_dropped",
    "reauthenticated",
    "too_many_sessions",
    "too_many_failures",
    "factors_reset",
]
# Each reason completes the sentence "The session was revoked because …", which operators read out to users.
REASONS: Final[Mapping[str, str]] = {
    "logout": "the user signed out",
    "replaced": "the user signed in again in the same browser",
    "reuse": "a replaced refresh token was used again after the grace period, which suggests theft",
    "password_changed": "the password was changed",
    "password_reset": "a new password was set by a link that was mailed to the user",
    "address_change_undone": "a change of the user's e-mail address was undone from the previous address",
    "user_disabled": "the user was disabled",
    "user_deleted": "the user was deleted",
    "operator": "an operator revoked it",
    "ended_by_user": "the user signed it out from the device list",
    "signed_out_everywhere": "the user signed out everywhere",
    "revoked_by_client": "another service revoked it",
    "key_dropped": "the signing key of its refresh token was dropped",
    "reauthenticated": "the user entered the password again, which started a new session",
    "too_many_sessions": "the user has a limited number of sessions, and this was the oldest",
    "too_many_failures": "a wrong password or code was entered too often within the session",
    "factors_reset": "an operator removed the user's second factors",
}
BATCH: Final = 1000


@db.retried
def revoke(sid: str, reason: Reason, now: datetime) -> bool:
    """Revoke the session `sid` and return whether it was live.

    No refresh of the session that starts after this returns can succeed.
    """
    with db.writing() as writer:
        return bool(revoke_where(writer, Session.id == sid, reason, now))


@db.retried
def revoke_own(user_id: str, sid: str, now: datetime, *, by: str) -> bool:
    """Revoke the live session `sid` of the user; return whether there was one.

    Args:
        by: the session in which the user asks for it.

    Raises:
        errors.AccessTokenInvalid: the session `by` was revoked.
    """
    with db.writing() as writer:
        authorize(writer, user_id, by, now, level=False)
        own = sa.and_(Session.id == sid, Session.user_id == user_id, Session.expires_at > now)
        return bool(revoke_where(writer, own, "ended_by_user", now))


@db.retried
def revoke_all_of(
    user_id: str, reason: Reason, now: datetime, *, keep: str | None = None, by: str | None = None
) -> int:
    """Revoke all sessions of a user except `keep`; return how many were live.

    Args:
        by: the session in which the user asks for it.

    Raises:
        errors.AccessTokenInvalid: the session `by` was revoked.
    """
    with db.writing() as writer:
        if by is not None:
            authorize(writer, user_id, by, now, level=False)
        others = sa.and_(Session.user_id == user_id, Session.id != (keep or ""))
        return len(revoke_where(writer, others, reason, now))


def revoke_batches(which: sa.ColumnElement[bool], reason: Reason, now: datetime) -> Iterator[int]:
    """Revoke matching sessions in batches; yield how many of each were live.

    A single statement for a million sessions would exceed the database's time limit and block refreshes until then.
    """
    page = sa.select(Session.id).where(which).order_by(Session.id).limit(BATCH)
    last = ""
    while rows := db.execute_now(page.where(Session.id > last)):
        last = rows[-1].id
        yield _revoke_each([row.id for row in rows], reason, now)


def revoke_where(writer: orm.Session, which: sa.ColumnElement[bool], reason: Reason, now: datetime) -> Sequence[str]:
    """Revoke matching live sessions in a transaction; return their ids.

    This is the only place that revokes sessions, so that none is revoked without an audit event.
    """
    revoked = writer.connection().execute(
        sa.update(Session)
        .where(Session.revoked_at.is_(None), which)
        .values(revoked_at=db.not_before(sa.literal(now, db.Instant())), revoked_reason=reason)
        .returning(Session.id, Session.user_id)
    )
    rows = [audit.event("session_ended", now, user_id=row[1], sid=row[0], reason=reason) for row in revoked]
    audit.record_all(writer, rows)
    return [row["sid"] for row in rows]


@db.retried
def _revoke_each(sids: Sequence[str], reason: Reason, now: datetime) -> int:
    with db.writing() as writer:
        return len(revoke_where(writer, Session.id.in_(sids), reason, now))
