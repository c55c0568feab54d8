"""Signing in and confirming a password: credentials in, a session out."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import orm

from tokenapp import accounts, audit, db, errors, factors, passwords, sessions
from tokenapp.models import Device, Grant, NewHash, User
from tokenapp.throttle import lockout, rate_limit

MAX_SESSION_FAILURES: Final = 20


class Credentials(NamedTuple):
    """What a person signs in with; `new_password` replaces a temporary password."""

    username: str
    password: str
    new_password: str | None = None


class Caller(NamedTuple):
    """The session of a request, and the methods by which it was opened."""

    user_id: str
    sid: str
    amr: tuple[str, ...]


class SignedIn(NamedTuple):
    """A new session, and the recovery codes of a factor that was set up with it."""

    grant: Grant
    recovery_codes: list[str]


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
        errors.SecondFactorRequired: the password is right, and the sign-in continues with `continue_sign_in`.
        errors.PasswordChangeRequired: the password is temporary, and there is no new one.
        errors.PasswordRejected: the new password violates the policy, or does not differ.
        errors.InvalidRequest: there is a new password, but the current one is not temporary.
    """
    user = authenticate(given, now)
    rate_limit.count_sign_in(user.id)
    replacement = _replacement(user, given)
    if factors.pending.is_needed(user):
        raise factors.pending.begin(user, now, replacement)

    def spend(writer: orm.Session) -> None:
        if replacement is not None:
            accounts.replace_temporary(writer, user, replacement, now)

    return sessions.open_session(
        user, now, device, amr=("pwd",), replaces=replaces, spend=spend if replacement is not None else None
    )


def continue_sign_in(
    token: str, answer: factors.Answer, device: Device, now: datetime, *, replaces: str | None = None
) -> SignedIn:
    """Open a session for a pending sign-in and a second factor.

    The session `replaces` is revoked. One transaction uses up the pending sign-in and the answer, and replaces a
    temporary password. If the sign-in must set up a factor, the answer confirms it.

    Raises:
        errors.SignInExpired, errors.InvalidCode, errors.FactorNotFound, errors.PasskeyRejected,
            errors.TooManyAttempts, errors.ServiceUnavailable
    """
    waiting = factors.pending.find(token, now)
    recovery_codes: list[str] = []
    with _counted_code(waiting.user, None, now):
        if waiting.setup:
            checked = factors.setup.check(waiting, answer, device, now)
        else:
            checked = factors.check(waiting.user, answer, now)

        def spend(writer: orm.Session) -> None:
            factors.pending.spend(writer, waiting, now)
            if waiting.replacement is not None:
                accounts.replace_temporary(writer, waiting.user, waiting.replacement, now)
            recovery_codes[:] = checked.spend(writer) or ()

        amr = factors.assess(factors.PASSWORD, checked.proof).amr
        try:
            grant = sessions.open_session(waiting.user, now, device, amr=amr, replaces=replaces, spend=spend)
        except errors.InvalidCode:
            raise
        except errors.InvalidCredentials as error:
            raise errors.SignInExpired(reason=error.reason) from None
    return SignedIn(grant, recovery_codes)


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
    name = user.username if user else typed  # all names of an account share one count
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


def reauthenticate(caller: Caller, password: str, now: datetime, device: Device) -> Grant:
    """Check the password again, and replace the caller's session by a new one.

    Raises:
        errors.AccessTokenInvalid, errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
        errors.SecondFactorRequired: the password is right, and the sign-in continues with `continue_sign_in`.
    """
    user = sessions.check_authorized(caller.user_id, caller.sid, now, level=False)
    _confirm(user, caller.sid, password, now)
    if factors.pending.is_needed(user):
        raise factors.pending.begin(user, now)
    return sessions.reauthenticate(user, caller.sid, now, device)


def step_up(caller: Caller, answer: factors.Answer, now: datetime, device: Device) -> Grant:
    """Check a second factor, and replace the caller's session by a new one.

    What is proved is added to the methods of the session. Failures count against the session. It is revoked after
    twenty in a row.

    Raises:
        errors.AccessTokenInvalid, errors.InvalidCode, errors.TooManyAttempts, errors.ServiceUnavailable
    """
    user = sessions.check_authorized(caller.user_id, caller.sid, now, level=False)
    with _counted_code(user, caller.sid, now):
        checked = factors.check(user, answer, now)
        amr = factors.assess(checked.proof, held=caller.amr).amr

        def spend(writer: orm.Session) -> None:
            checked.spend(writer)

        return sessions.reauthenticate(user, caller.sid, now, device, amr=amr, spend=spend)


def change_password(caller: Caller, current: str, new: str, now: datetime, device: Device) -> Grant:
    """Replace the user's password and, by a new one, all their sessions.

    Raises:
        errors.AccessTokenInvalid, errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
        errors.ReauthenticationRequired: the session has a lower level than the account, or the account has a second
            factor and the sign-in is not recent. The new session counts as a sign-in with both factors.
        errors.PasswordRejected: the new password violates the policy, or does not differ.
    """
    user = sessions.check_authorized(caller.user_id, caller.sid, now, recent=True)
    _confirm(user, caller.sid, current, now)
    _check_differs(new, current)
    amr = factors.assess(factors.PASSWORD, held=caller.amr).amr
    return accounts.change_password(user, caller.sid, new, now, device, amr=amr)


def _confirm(user: User, sid: str, password: str, now: datetime) -> None:
    """Check the password of the user of the session `sid`.

    Failures count against the session. It is revoked after twenty in a row.
    """
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


@contextmanager
def _counted_code(user: User, sid: str | None, now: datetime) -> Iterator[None]:
    """Count a check as failed before it is done, and clear the count on success.

    Codes count against the account, over all pending sign-ins; inside a session, against that. They count apart from
    passwords: otherwise the right password would clear the count of wrong codes.
    """
    purpose: lockout.Purpose = "code" if sid is None else "session code"
    name = sid or user.id
    with lockout.one_at_a_time(name):
        failures = lockout.count_attempt(purpose, name, now)
        try:
            yield
        except errors.InvalidCode as error:
            _record_failure(_Failure(name, failures, user, sid, str(error.reason)), now, "factor_failed")
            if sid is not None and failures >= MAX_SESSION_FAILURES:
                sessions.revoke(sid, "too_many_failures", now)
            raise
        except errors.TokenappError:
            lockout.undo_attempt(purpose, name, failures, now)
            raise
        lockout.clear(purpose, name)


def _replacement(user: User, given: Credentials) -> NewHash | None:
    """Return the hash of what replaces a temporary password, if `user` has one."""
    if not user.password_temporary:
        if given.new_password is not None:
            raise errors.InvalidRequest(detail="`newPassword` can only replace a temporary password.")
        return None
    if given.new_password is None:
        raise errors.PasswordChangeRequired
    _check_differs(given.new_password, given.password)
    return accounts.hash_new(user, given.new_password)


def _check_differs(new: str, current: str) -> None:
    if passwords.policy.normalize(new) == passwords.policy.normalize(current):
        raise errors.PasswordRejected(detail="The new password must differ from the current one.")


def _record_failure(failure: _Failure, now: datetime, kind: audit.Kind = "sign_in_failed") -> None:
    """Record a failed attempt; from the fifth on once an hour, with a count."""
    user_id = failure.user.id if failure.user else None
    if failure.number > lockout.FREE_FAILURES:
        about = failure.sid or user_id or failure.name
        audit.count(kind, now, about=about, user_id=user_id, sid=failure.sid, reason=failure.reason)
    else:
        audit.record_alone(kind, now, user_id=user_id, sid=failure.sid, reason=failure.reason)
    if failure.number == lockout.LOCK_AFTER and failure.sid is None:
        audit.record_alone("user_locked", now, user_id=user_id)
        if user_id is not None:
            factors.pending.end(user_id)
