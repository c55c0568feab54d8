"""The life of a session: opened by a sign-in, refreshed, ended. How a refresh is answered stands in `refresh`."""

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta

import sqlalchemy as sa

from tokenapp import config, db, errors, events
from tokenapp.models import Grant, RefreshClaims, Session, User
from tokenapp.sessions.listing import (
    BATCH,
    FEED_OVERLAP,
    FEED_PAGE,
    count_prunable,
    ended_since,
    exists,
    get,
    honours,
    latest_of,
    list_sessions,
    page_of,
    prune,
)
from tokenapp.sessions.rotation import GRANTED, grant, is_recent, new_jti, read, rotate

__all__ = [
    "BATCH",
    "FEED_OVERLAP",
    "FEED_PAGE",
    "count_prunable",
    "end",
    "end_all_of",
    "end_everyones",
    "end_own",
    "ended_since",
    "exists",
    "get",
    "honours",
    "latest_of",
    "list_sessions",
    "open_session",
    "page_of",
    "prune",
    "reauthenticate",
    "refresh",
]

log = logging.getLogger(__name__)


@db.retried
def open_session(
    user: User,
    now: datetime,
    *,
    ip_address: str | None = None,
    user_agent: str | None = None,
    replaces: str | None = None,
) -> Grant:
    """Open a session for `user`, who has just given the password; end the session `replaces` in the same transaction.

    Raises:
        errors.InvalidCredentials: the user was disabled, or the password changed, since it was verified.
    """
    session = _new_row(user, now, ip_address, user_agent)
    same = (User.id == user.id, User.disabled_at.is_(None), User.password_changed_at == user.password_changed_at)
    with db.writing() as writer:
        # The share lock makes a disabling or a new password wait for this sign-in, and end it then, or win outright.
        unchanged = writer.scalars(sa.select(User.id).where(*same).with_for_update(read=True)).one_or_none() is not None
        if unchanged:
            writer.add(session)
            events.record(writer, "sign_in", now, user_id=user.id, sid=session.id)
            if replaces is not None:
                events.end_sessions(writer, Session.id == replaces, "replaced", now)
        else:
            events.record(writer, "sign_in_failed", now, user_id=user.id, reason="user changed meanwhile")
    if not unchanged:
        raise errors.InvalidCredentials(reason="user changed meanwhile")
    return Grant(
        "opened",
        sid=session.id,
        user_id=user.id,
        username=user.username,
        jti=session.current_jti,
        generation=session.generation,
        issued_at=now,
        expires_at=session.expires_at,
        ends_at=session.ends_at,
        authenticated_at=now,
    )


def refresh(claims: RefreshClaims, now: datetime) -> Grant:
    """Rotate the session's refresh token; answer tabs, retries and lost replies with the token that is current.

    Reuse of an older token ends the session, and that is committed before the refusal is raised.

    Raises:
        errors.RefreshTokenExpired, errors.RefreshTokenRevoked
        errors.ServiceUnavailable: the row changed twice under our hands for other reasons.
    """
    window = timedelta(seconds=config.current().refresh_grace)
    for _ in range(2):
        rotated = rotate(claims, now, window)
        if rotated is not None:
            return rotated
        row = read(claims.sid)
        if row is None:
            raise errors.RefreshTokenRevoked(reason="unknown session", sid=claims.sid, outcome="revoked")
        if row.revoked_at is not None or row.disabled_at is not None:
            reason = row.revoked_reason or "user_disabled"
            raise errors.RefreshTokenRevoked(reason=f"session ended: {reason}", sid=claims.sid, outcome="revoked")
        if now >= row.expires_at:
            raise errors.RefreshTokenExpired(reason="session expired", sid=claims.sid)
        recent = bool(window) and row.rotated_at is not None and is_recent(now - row.rotated_at, window)
        if recent and claims.jti == row.current_jti:
            return grant("damped", row)
        if recent and claims.jti == row.previous_jti:
            return grant("grace", row)
        if claims.jti != row.current_jti:
            break
    else:
        raise errors.ServiceUnavailable(reason="lost the race twice", sid=claims.sid)
    if claims.gen > row.generation:
        log.critical("refresh token is ahead of the database: was a backup restored? sid=%s", claims.sid)
        events.record_alone("refresh_ahead", now, sid=claims.sid, user_id=row.user_id)
        raise errors.RefreshTokenRevoked(reason="generation ahead", sid=claims.sid, outcome="ahead")
    end(claims.sid, "reuse", now)
    raise errors.RefreshTokenRevoked(reason="reuse", sid=claims.sid, outcome="reuse")


@db.retried
def end(sid: str, reason: str, now: datetime) -> bool:
    """End the session `sid`; tell whether it was live until now. When this returns, no refresh of it can succeed."""
    with db.writing() as writer:
        return bool(events.end_sessions(writer, Session.id == sid, reason, now))


@db.retried
def end_own(user_id: str, sid: str, now: datetime) -> bool:
    """End the session `sid` if it is live and belongs to that user; tell whether it was so."""
    with db.writing() as writer:
        own = sa.and_(Session.id == sid, Session.user_id == user_id, Session.expires_at > now)
        return bool(events.end_sessions(writer, own, "ended_by_user", now))


@db.retried
def end_all_of(user_id: str, reason: str, now: datetime, *, keep: str | None = None) -> int:
    """End all sessions of one user but `keep`, in one transaction; return how many were live until now."""
    with db.writing() as writer:
        others = sa.and_(Session.user_id == user_id, Session.id != (keep or ""))
        return len(events.end_sessions(writer, others, reason, now))


def end_everyones(now: datetime, reason: str) -> Iterator[int]:
    """End all sessions there are, in batches, each committed by itself; yield how many of each were live."""
    # One statement for all would run into the database's time limit, and keep every refresh waiting meanwhile.
    page = sa.select(Session.id).order_by(Session.id).limit(BATCH)
    last = ""
    while rows := db.execute_now(page.where(Session.id > last)):
        last = rows[-1].id
        yield events.end_each([row.id for row in rows], reason, now)


@db.retried
def reauthenticate(sid: str, now: datetime) -> Grant:
    """Note that the password was given again in the session `sid`, from which its access tokens are fresh anew.

    Raises:
        errors.AccessTokenInvalid: the session has ended.
    """
    statement = sa.update(Session).where(Session.id == sid, Session.revoked_at.is_(None), Session.expires_at > now)
    with db.writing() as writer:
        row = writer.connection().execute(statement.values(authenticated_at=now).returning(*GRANTED)).one_or_none()
        if row is None:
            raise errors.AccessTokenInvalid(reason="session ended", sid=sid)
        events.record(writer, "reauthenticated", now, user_id=row.user_id, sid=sid)
    return grant("reauthenticated", row)


def _new_row(user: User, now: datetime, ip_address: str | None, user_agent: str | None) -> Session:
    policy = config.current()
    ends_at = now + timedelta(seconds=policy.session_lifetime)
    return Session(
        id=db.new_id(now),
        user_id=user.id,
        current_jti=new_jti(),
        generation=0,
        created_at=now,
        authenticated_at=now,
        expires_at=min(now + timedelta(seconds=policy.refresh_lifetime), ends_at),
        ends_at=ends_at,
        ip_address=ip_address,
        user_agent=user_agent,
    )
