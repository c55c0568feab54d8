"""Replace the password of a user, and the hash of a password."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, db, errors, passwords
from tokenapp.models import Device, Grant, Session, User
from tokenapp.sessions import replace_sessions, revoke_where, unchanged
from tokenapp.throttle import lockout

_CHANGED: Final = "credentials changed during sign-in"


def set_password(user: User, password: str, now: datetime) -> int:
    """Replace the password of `user` and revoke all their sessions.

    It is one transaction. Returns how many sessions were live.

    Raises:
        errors.PasswordRejected: nothing was written.
    """
    passwords.policy.check(password, user.username)
    return _set_password(user, passwords.hash_password(password), now)


def change_password(user: User, sid: str, password: str, now: datetime, device: Device) -> Grant:
    """Replace the password of a user who was just authenticated in the session `sid`.

    In the same transaction all their sessions are revoked and a new one is opened.

    Raises:
        errors.PasswordRejected, errors.AccessTokenInvalid: nothing was written.
        errors.InvalidCredentials: the password was changed, or the user disabled, in the meantime. This is recorded in
            the audit log and committed.
    """
    passwords.policy.check(password, user.username)
    grant = _change_password(user, sid, passwords.hash_password(password), now, device)
    if grant is None:
        raise errors.InvalidCredentials(reason=_CHANGED)
    return grant


def upgrade_hash(user: User, hashed: str) -> None:
    """Replace the hash of a password, unless the password was changed since."""
    unchanged = (User.id == user.id, User.password_hash == user.password_hash)
    db.execute_now(sa.update(User).where(*unchanged).values(password_hash=hashed, hash_kind=passwords.kind_of(hashed)))


@db.retried
def _set_password(user: User, hashed: str, now: datetime) -> int:
    with db.writing() as session:
        if _store_password(session, user, hashed, now, sa.and_(User.id == user.id, User.deleted_at.is_(None))):
            audit.record(session, "password_changed", now, user_id=user.id)
        return len(revoke_where(session, Session.user_id == user.id, "password_changed", now))


@db.retried
def _change_password(user: User, sid: str, hashed: str, now: datetime, device: Device) -> Grant | None:
    with db.writing() as session:
        if not _store_password(session, user, hashed, now, sa.and_(*unchanged(user))):
            audit.record(session, "sign_in_failed", now, user_id=user.id, reason=_CHANGED)
            return None
        live = sa.and_(Session.id == sid, Session.user_id == user.id, Session.expires_at > now)
        if not revoke_where(session, live, "password_changed", now):
            raise errors.AccessTokenInvalid(reason="session ended", sid=sid)
        grant = replace_sessions(session, user, now, device, amr=("pwd",))
        audit.record(session, "password_changed", now, user_id=user.id, sid=grant.sid)
        return grant


def _store_password(session: orm.Session, user: User, hashed: str, now: datetime, who: sa.ColumnElement[bool]) -> bool:
    change = {
        "password_hash": hashed,
        "hash_kind": passwords.kind_of(hashed),
        "credentials_changed_at": now,
    }
    if not session.connection().execute(sa.update(User).where(who).values(change)).rowcount:
        return False
    session.execute(lockout.clearing("password", user.username))
    return True
