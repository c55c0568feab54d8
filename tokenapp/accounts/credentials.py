"""Replace the password of a user, and the hash of a password."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import access_keys, audit, db, errors, passwords
from tokenapp.accounts import login_names
from tokenapp.accounts.changes import end_links
from tokenapp.models import Device, Grant, NewHash, Session, User
from tokenapp.sessions import authorize, replace_sessions, revoke_where, unchanged
from tokenapp.throttle import lockout

_CHANGED: Final = "credentials changed during sign-in"


def hash_new(user: User, password: str) -> NewHash:
    """Return the hash of a new password of `user`.

    Raises:
        errors.PasswordRejected
    """
    passwords.policy.check(password, user.username, second_factor=user.second_factor)
    short = user.second_factor and not passwords.policy.protects_alone(password, user.username)
    return NewHash(passwords.hash_password(password), short)


def set_password(user: User, password: str, now: datetime, *, temporary: bool = False) -> int:
    """Replace the password of `user`; revoke all their sessions and access keys.

    It is one transaction. Returns how many sessions were live.

    Args:
        temporary: whether the user must replace it at the next sign-in.

    Raises:
        errors.PasswordRejected: nothing was written.
    """
    return _set_password(user, hash_new(user, password), now, temporary=temporary)


def change_password(user: User, sid: str, password: str, now: datetime, device: Device, *, amr: Sequence[str]) -> Grant:
    """Replace the password of a user who was just authenticated in the session `sid`.

    In the same transaction all their sessions are revoked and a new one is opened.

    Args:
        amr: the methods by which the user was authenticated.

    Raises:
        errors.PasswordRejected, errors.AccessTokenInvalid, errors.ReauthenticationRequired: nothing was written.
        errors.InvalidCredentials: the password was changed, or the user disabled, in the meantime. This is recorded in
            the audit log and committed.
    """
    grant = _change_password(user, sid, hash_new(user, password), now, (device, amr))
    if grant is None:
        raise errors.InvalidCredentials(reason=_CHANGED)
    return grant


def upgrade_hash(user: User, hashed: str) -> None:
    """Replace the hash of a password, unless the password was changed since."""
    unchanged = (User.id == user.id, User.password_hash == user.password_hash)
    db.execute_now(sa.update(User).where(*unchanged).values(password_hash=hashed, hash_kind=passwords.kind_of(hashed)))


def replace_temporary(session: orm.Session, user: User, hashed: NewHash, now: datetime) -> None:
    """Replace the temporary password of a user, in the transaction of their sign-in.

    Raises:
        errors.InvalidCredentials: the password was changed, or the user disabled, in the meantime.
    """
    if not _store_password(session, user, hashed, now, sa.and_(*unchanged(user))):
        raise errors.InvalidCredentials(reason=_CHANGED)
    audit.record(session, "password_changed", now, user_id=user.id)


def reset_password(session: orm.Session, user: User, hashed: NewHash, now: datetime) -> None:
    """Replace the password of a user who has proven their address.

    In the transaction of `session` all sessions and access keys of the user are revoked, and all links end. Proving the
    address also verifies it.
    """
    if not _store_password(session, user, hashed, now, User.id == user.id):
        raise errors.PasswordRejected
    end_links(session, user.id, keep_undo=False)
    if user.email_verified_at is None:
        user.email_verified_at = now
        login_names.store(session, [user])
    access_keys.revoke_all_of(session, user.id, "password_reset", now)
    revoke_where(session, Session.user_id == user.id, "password_reset", now)
    audit.record(session, "password_changed", now, user_id=user.id, reason="reset")


def remove_password(session: orm.Session, user: User, now: datetime) -> None:
    """Leave `user` without a password and sessions, because others may know it."""
    user.password_hash, user.hash_kind, user.credentials_changed_at = "", "", now
    user.password_temporary = False
    access_keys.revoke_all_of(session, user.id, "address_change_undone", now)
    revoke_where(session, Session.user_id == user.id, "address_change_undone", now)


@db.retried
def _set_password(user: User, hashed: NewHash, now: datetime, *, temporary: bool) -> int:
    with db.writing() as session:
        if _store_password(session, user, hashed, now, sa.and_(User.id == user.id, User.deleted_at.is_(None))):
            if temporary:
                session.execute(sa.update(User).where(User.id == user.id).values(password_temporary=True))
            audit.record(session, "password_changed", now, user_id=user.id)
        access_keys.revoke_all_of(session, user.id, "password_changed", now)
        return len(revoke_where(session, Session.user_id == user.id, "password_changed", now))


@db.retried
def _change_password(
    user: User, sid: str, hashed: NewHash, now: datetime, opened: tuple[Device, Sequence[str]]
) -> Grant | None:
    device, amr = opened
    with db.writing() as session:
        authorize(session, user.id, sid, now)
        if not _store_password(session, user, hashed, now, sa.and_(*unchanged(user))):
            audit.record(session, "sign_in_failed", now, user_id=user.id, reason=_CHANGED)
            return None
        grant = replace_sessions(session, user, now, device, amr=amr)
        audit.record(session, "password_changed", now, user_id=user.id, sid=grant.sid)
        return grant


def _store_password(
    session: orm.Session, user: User, hashed: NewHash, now: datetime, who: sa.ColumnElement[bool]
) -> bool:
    if hashed.short:
        who = sa.and_(who, User.second_factor)  # it could have been removed since
    change = {
        "password_hash": hashed.text,
        "hash_kind": passwords.kind_of(hashed.text),
        "password_short": hashed.short,
        "credentials_changed_at": now,
        "password_temporary": False,
    }
    if not session.connection().execute(sa.update(User).where(who).values(change)).rowcount:
        return False
    session.execute(lockout.clearing("password", user.username))
    end_links(session, user.id, keep_undo=True)
    return True
