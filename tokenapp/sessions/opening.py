"""Opening sessions: after a sign-in, a re-authentication or a new password."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, config, db, errors
from tokenapp.models import Device, Grant, Session, User
from tokenapp.sessions.revocation import revoke_where
from tokenapp.sessions.rotation import new_jti

_SURPLUS_AT_ONCE: Final = 1000


@db.retried
def open_session(
    user: User,
    now: datetime,
    device: Device = Device(),  # noqa: B008 -- immutable
    *,
    amr: Sequence[str] = ("pwd",),
    replaces: str | None = None,
    spend: Callable[[orm.Session], None] | None = None,
) -> Grant:
    """Open a session for `user` and revoke the session `replaces`.

    It is one transaction. The oldest sessions beyond the limit per user are revoked in it, too.

    Args:
        amr: the methods by which the user was just authenticated (RFC 8176).
        spend: uses up what the session is opened for, in its transaction; what it raises rolls back everything.

    Raises:
        errors.InvalidCredentials: the user was disabled, or their credentials changed, since they were verified. The
            failure is recorded in the audit log and committed.
    """
    session = _new_session(user.id, now, device, amr)
    with db.writing() as writer:
        # The lock makes a concurrent disabling or password change wait for this sign-in, or win outright. It is shared
        # unless `spend` may change the user: two transactions cannot both upgrade a shared lock.
        locking = sa.select(User.id).where(*unchanged(user)).with_for_update(read=spend is None)
        allowed = writer.scalar(locking) is not None
        if allowed:
            if spend is not None:
                spend(writer)
            if replaces is not None:
                revoke_where(writer, Session.id == replaces, "replaced", now)
            add_session(writer, session, "sign_in", now)
        else:
            audit.record(writer, "sign_in_failed", now, user_id=user.id, reason="credentials changed during sign-in")
    if not allowed:
        raise errors.InvalidCredentials(reason="credentials changed during sign-in")
    return opened(session, user)


@db.retried
def reauthenticate(
    user: User,
    sid: str,
    now: datetime,
    device: Device,
    *,
    amr: Sequence[str] = ("pwd",),
    spend: Callable[[orm.Session], None] | None = None,
) -> Grant:
    """Open a new session in place of `sid`, whose user was just authenticated again.

    A copy of the old refresh token therefore never becomes fresh.

    Raises:
        errors.AccessTokenInvalid: the session was revoked or has expired.
    """
    session = _new_session(user.id, now, device, amr)
    live = sa.and_(Session.id == sid, Session.user_id == user.id, Session.expires_at > now)
    with db.writing() as writer:
        if spend is not None:
            spend(writer)
        if not revoke_where(writer, live, "reauthenticated", now):
            raise errors.AccessTokenInvalid(reason="session ended", sid=sid)
        add_session(writer, session, "reauthenticated", now)
    return opened(session, user)


def replace_sessions(writer: orm.Session, user: User, now: datetime, device: Device, *, amr: Sequence[str]) -> Grant:
    """Revoke all sessions of `user` for a new password, and open a new one."""
    revoke_where(writer, Session.user_id == user.id, "password_changed", now)
    session = _new_session(user.id, now, device, amr)
    writer.add(session)
    return opened(session, user)


def open_first(writer: orm.Session, user: User, now: datetime, device: Device, *, replaces: str | None) -> Grant:
    """Open the first session of a new user, in the transaction that creates them.

    It revokes the session `replaces`, as `open_session` does.
    """
    session = _new_session(user.id, now, device, ("pwd",))
    if replaces is not None:
        revoke_where(writer, Session.id == replaces, "replaced", now)
    add_session(writer, session, "sign_in", now)
    return opened(session, user)


def unchanged(user: User) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions that `user` is active and has the same credentials."""
    return (
        User.id == user.id,
        User.disabled_at.is_(None),
        User.credentials_changed_at == user.credentials_changed_at,
        User.second_factor == user.second_factor,
    )


def add_session(writer: orm.Session, session: Session, kind: audit.Kind, now: datetime) -> None:
    """Add a session and its audit event; revoke the oldest beyond the limit."""
    writer.add(session)
    audit.record(writer, kind, now, user_id=session.user_id, sid=session.id)
    live = sa.select(Session.id).where(
        Session.user_id == session.user_id, Session.revoked_at.is_(None), Session.expires_at > now
    )
    surplus = live.order_by(Session.id.desc()).offset(config.current().max_sessions).limit(_SURPLUS_AT_ONCE)
    sids = writer.scalars(surplus).all()
    if sids:
        revoke_where(writer, Session.id.in_(sids), "too_many_sessions", now)


def opened(session: Session, user: User) -> Grant:
    """Return the grant of a new session."""
    return Grant(
        "opened",
        sid=session.id,
        user_id=session.user_id,
        username=user.username,
        jti=session.current_jti,
        generation=session.generation,
        issued_at=session.created_at,
        expires_at=session.expires_at,
        ends_at=session.ends_at,
        authenticated_at=session.authenticated_at,
        amr=tuple(session.amr.split()),
        roles=(user.roles_id, *user.roles.split()) if user.roles else (),
    )


def _new_session(user_id: str, now: datetime, device: Device, amr: Sequence[str]) -> Session:
    settings = config.current()
    ends_at = now + timedelta(seconds=settings.session_lifetime)
    return Session(
        id=db.new_id(now),
        user_id=user_id,
        current_jti=new_jti(),
        generation=0,
        amr=" ".join(amr),
        created_at=now,
        authenticated_at=now,
        expires_at=min(now + timedelta(seconds=settings.refresh_lifetime), ends_at),
        ends_at=ends_at,
        ip_address=device.ip_address,
        user_agent=device.user_agent,
        last_ip_address=device.ip_address,
        last_user_agent=device.user_agent,
    )
