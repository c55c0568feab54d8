"""Signing in and confirming a password: credentials in, a session out."""

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from tokenapp import accounts, audit, db, errors, passwords, sessions
from tokenapp.models import Grant, User
from tokenapp.sessions import Device
from tokenapp.throttle import lockout


class Credentials(NamedTuple):
    """What a person signs in with."""

    username: str
    password: str


def sign_in(given: Credentials, device: Device, now: datetime, *, replaces: str | None = None) -> Grant:
    """Open a session for these credentials, and revoke the session `replaces`.

    Raises:
        errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
    """
    user = authenticate(given, now)
    return sessions.open_session(user, now, device, amr=("pwd",), replaces=replaces)


def authenticate(given: Credentials, now: datetime) -> User:
    """Return the user with these credentials.

    Unknown users, wrong passwords and disabled users get the same error after the same time, and each counts as a
    failed attempt. The failure is recorded in the audit log before the error is raised. Outdated hashes are replaced.

    Raises:
        errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
    """
    name = accounts.canonical(given.username)
    with lockout.one_at_a_time(name):
        failures = lockout.count_attempt("password", name, now)
        with db.reading() as session:
            user = session.scalars(sa.select(User).where(User.username == name)).one_or_none()
        try:
            matches = passwords.verify(user.password_hash if user else None, given.password)
        except errors.ServiceUnavailable:
            lockout.undo_attempt("password", name, failures, now)
            raise
        accepted = user is not None and matches and user.disabled_at is None
        if accepted:
            lockout.clear("password", name)
    if user is None or not accepted:
        reason = "unknown user" if user is None else "user disabled" if matches else "wrong password"
        audit.record_alone("sign_in_failed", now, user_id=user.id if user else None, reason=reason)
        raise errors.InvalidCredentials(reason=reason)
    if passwords.needs_upgrade(user.password_hash):
        accounts.upgrade_hash(user, passwords.hash_password(given.password))
    return user


def reauthenticate(user_id: str, sid: str, password: str, now: datetime) -> Grant:
    """Check the password again and make the access tokens of `sid` fresh.

    Raises:
        errors.AccessTokenInvalid, errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
    """
    owner = accounts.get_active(user_id)
    authenticate(Credentials(owner.username, password), now)
    return sessions.reauthenticate(sid, now)


def change_password(user_id: str, sid: str, current: str, new: str, now: datetime) -> int:
    """Replace the user's password, given the current one; keep only `sid`.

    All other sessions of the user are revoked.

    Returns the number of revoked sessions.

    Raises:
        errors.AccessTokenInvalid, errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
        errors.PasswordRejected: the new password violates the policy.
    """
    owner = accounts.get_active(user_id)
    user = authenticate(Credentials(owner.username, current), now)
    return accounts.change_password(user, new, now, keep=sid)
