"""Signing in and confirming a password: credentials in, a session out."""

from datetime import datetime
from typing import Final, NamedTuple

from tokenapp import accounts, audit, db, errors, passwords, sessions
from tokenapp.models import Device, Grant, User
from tokenapp.throttle import lockout, rate_limit

MAX_SESSION_FAILURES: Final = 20


class Credentials(NamedTuple):
    """What a person signs in with; `new_password` replaces a temporary password."""

    username: str
    password: str
    new_password: str | None = None


class _Failure(NamedTuple):
    """A failed attempt, the `number`-th in a row, on an account or in a session."""

    name: str
    number: int
    user: User | None
    sid: str | None
    reason: str


def sign_in(given: Credentials, device: Device, now: datetime, *, replaces: str | None = None) -> Grant:
    """Open a session for these credentials, and revoke the session `replaces`.

    Raises:
        errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
        errors.PasswordChangeRequired: the password is temporary, and there is no new one.
        errors.PasswordRejected: the new password violates the policy, or does not differ.
        errors.InvalidRequest: there is a new password, but the current one is not temporary.
    """
    user = authenticate(given, now)
    rate_limit.count_sign_in(user.id)
    if user.password_temporary:
        if given.new_password is None:
            raise errors.PasswordChangeRequired
        _check_differs(given.new_password, given.password)
        user = accounts.replace_temporary(user, given.new_password, now)
    elif given.new_password is not None:
        raise errors.InvalidRequest(detail="`newPassword` can only replace a temporary password.")
    return sessions.open_session(user, now, device, amr=("pwd",), replaces=replaces)


def authenticate(given: Credentials, now: datetime) -> User:
    """Return the user with these credentials.

    Unknown users, wrong passwords and disabled users get the same error after the same time, and each counts as a
    failed attempt. The failure is recorded in the audit log before the error is raised. Outdated hashes are replaced.

    Raises:
        errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
    """
    typed = accounts.canonical(given.username)
    with db.reading() as session:
        user = session.scalars(accounts.by_name(typed)).one_or_none()
    name = user.username if user else typed  # so that an account has one count, whichever of its names is used
    with lockout.one_at_a_time(name):
        failures = lockout.count_attempt("password", name, now)
        try:
            matches = passwords.verify(
                user.password_hash if user else None, given.password, decoy=passwords.kind_for(name)
            )
        except passwords.VerificationUnfinished:
            _record_failure(_Failure(name, failures, user, None, "verification unfinished"), now)
            raise
        except errors.ServiceUnavailable:
            lockout.undo_attempt("password", name, failures, now)
            raise
        accepted = user is not None and matches and user.disabled_at is None
        if accepted:
            lockout.clear("password", name)
    if user is None or not accepted:
        reason = "unknown user" if user is None else "user disabled" if matches else "wrong password"
        _record_failure(_Failure(name, failures, user, None, reason), now)
        raise errors.InvalidCredentials(reason=reason)
    if matches is passwords.Match.AS_SENT or passwords.needs_upgrade(user.password_hash):
        accounts.upgrade_hash(user, passwords.hash_password(given.password))
    return user


def reauthenticate(user_id: str, sid: str, password: str, now: datetime, device: Device) -> Grant:
    """Check the password again, and replace the session `sid` by a new one.

    Raises:
        errors.AccessTokenInvalid, errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
    """
    user = _confirm(user_id, sid, password, now)
    return sessions.reauthenticate(user, sid, now, device)


def change_password(user_id: str, sid: str, current: str, new: str, now: datetime, device: Device) -> Grant:
    """Replace the user's password and, by a new one, all their sessions.

    Raises:
        errors.AccessTokenInvalid, errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
        errors.PasswordRejected: the new password violates the policy, or does not differ.
    """
    user = _confirm(user_id, sid, current, now)
    _check_differs(new, current)
    return accounts.change_password(user, sid, new, now, device)


def _confirm(user_id: str, sid: str, password: str, now: datetime) -> User:
    """Return the user of the session `sid` after checking their password.

    Failures count against the session. It is revoked after twenty in a row.
    """
    user = accounts.get_active(user_id)
    with lockout.one_at_a_time(sid):
        failures = lockout.count_attempt("session", sid, now)
        try:
            decoy = user.hash_kind or passwords.kind_for(user.username)
            matches = passwords.verify(user.password_hash, password, decoy=decoy)
        except passwords.VerificationUnfinished:
            _record_failure(_Failure(user.username, failures, user, sid, "verification unfinished"), now)
            raise
        except errors.ServiceUnavailable:
            lockout.undo_attempt("session", sid, failures, now)
            raise
        if matches:
            lockout.clear("session", sid)
    if not matches:
        _record_failure(_Failure(user.username, failures, user, sid, "wrong password"), now)
        if failures >= MAX_SESSION_FAILURES:
            sessions.revoke(sid, "too_many_failures", now)
        raise errors.InvalidCredentials(reason="wrong password", sid=sid)
    return user


def _check_differs(new: str, current: str) -> None:
    if passwords.policy.normalize(new) == passwords.policy.normalize(current):
        raise errors.PasswordRejected(detail="The new password must differ from the current one.")


def _record_failure(failure: _Failure, now: datetime) -> None:
    """Record a failed attempt; from the fifth on once an hour, with a count."""
    user_id = failure.user.id if failure.user else None
    if failure.number > lockout.FREE_FAILURES:
        about = failure.sid or user_id or failure.name
        audit.count("sign_in_failed", now, about=about, user_id=user_id, sid=failure.sid, reason=failure.reason)
    else:
        audit.record_alone("sign_in_failed", now, user_id=user_id, sid=failure.sid, reason=failure.reason)
    if failure.number == lockout.LOCK_AFTER and failure.sid is None:
        audit.record_alone("user_locked", now, user_id=user_id)
