"""Opening a session after a sign-in, and confirming it after a re-authentication."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from tokenapp import audit, config, db, errors
from tokenapp.models import Grant, Session, User
from tokenapp.sessions.revocation import revoke_where
from tokenapp.sessions.rotation import GRANTED, grant, new_jti


class Device(NamedTuple):
    """Where a sign-in comes from."""

    ip_address: str | None = None
    user_agent: str | None = None


@db.retried
def open_session(
    user: User,
    now: datetime,
    device: Device = Device(),  # noqa: B008 -- immutable
    *,
    amr: Sequence[str] = ("pwd",),
    replaces: str | None = None,
) -> Grant:
    """Open a session for `user`, and revoke the session `replaces`.

    Args:
        amr: the methods by which the user was just authenticated (RFC 8176).

    Raises:
        errors.InvalidCredentials: the user was disabled, or their credentials changed, since they were verified. The
            failure is recorded in the audit log and committed.
    """
    session = _new_session(user, now, device, amr)
    unchanged = (
        User.id == user.id,
        User.disabled_at.is_(None),
        User.credentials_changed_at == user.credentials_changed_at,
    )
    with db.writing() as writer:
        # The share lock makes a concurrent disabling or password change wait for this sign-in, or take effect first.
        allowed = writer.scalar(sa.select(User.id).where(*unchanged).with_for_update(read=True)) is not None
        if allowed:
            writer.add(session)
            audit.record(writer, "sign_in", now, user_id=user.id, sid=session.id)
            if replaces is not None:
                revoke_where(writer, Session.id == replaces, "replaced", now)
        else:
            audit.record(writer, "sign_in_failed", now, user_id=user.id, reason="credentials changed during sign-in")
    if not allowed:
        raise errors.InvalidCredentials(reason="credentials changed during sign-in")
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
        amr=tuple(amr),
    )


@db.retried
def reauthenticate(sid: str, now: datetime) -> Grant:
    """Record a re-authentication, which makes the session's access tokens fresh.

    Raises:
        errors.AccessTokenInvalid: the session was revoked or has expired.
    """
    statement = sa.update(Session).where(Session.id == sid, Session.revoked_at.is_(None), Session.expires_at > now)
    with db.writing() as writer:
        row = writer.connection().execute(statement.values(authenticated_at=now).returning(*GRANTED)).one_or_none()
        if row is None:
            raise errors.AccessTokenInvalid(reason="session ended", sid=sid)
        audit.record(writer, "reauthenticated", now, user_id=row.user_id, sid=sid)
    return grant("reauthenticated", row)


def _new_session(user: User, now: datetime, device: Device, amr: Sequence[str]) -> Session:
    settings = config.current()
    ends_at = now + timedelta(seconds=settings.session_lifetime)
    return Session(
        id=db.new_id(now),
        user_id=user.id,
        current_jti=new_jti(),
        generation=0,
        amr=" ".join(amr),
        created_at=now,
        authenticated_at=now,
        expires_at=min(now + timedelta(seconds=settings.refresh_lifetime), ends_at),
        ends_at=ends_at,
        ip_address=device.ip_address,
        user_agent=device.user_agent,
    )
