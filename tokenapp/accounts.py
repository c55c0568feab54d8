"""User accounts: created, found, given new passwords, disabled and enabled."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from tokenapp import audit, db, errors, passwords
from tokenapp.models import Device, Grant, Session, User
from tokenapp.sessions import replace_sessions, revoke_where, unchanged
from tokenapp.throttle import lockout

MAX_USERNAME: Final = 64
_CHANGED: Final = "credentials changed during sign-in"
_INVISIBLE_CATEGORIES: Final = ("C", "Zl", "Zp")
_SCRIPTS: Final = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "HEBREW", "ARABIC", "CHEROKEE")


@dataclass(frozen=True, slots=True)
class NewUser:
    """The data of a new user, with a password or, if imported, a password hash."""

    username: str
    password: str | None = None
    password_hash: str | None = None


def canonical(username: str) -> str:
    """Return the canonical form of `username`: NFKC, casefolded and trimmed."""
    folded = username
    for _ in range(3):
        previous, folded = folded, unicodedata.normalize("NFKC", folded).casefold().strip()
        if previous == folded:
            break
    return folded


def check_username(username: str) -> str:
    """Return the canonical form of the name of a new user.

    Raises:
        errors.UsernameRejected: with the reason as its detail.
    """
    name = canonical(username)
    if not 1 <= len(name) <= MAX_USERNAME:
        raise errors.UsernameRejected(detail=f"A user name must have 1 to {MAX_USERNAME} characters.")
    if any(unicodedata.category(char).startswith(_INVISIBLE_CATEGORIES) for char in name):
        raise errors.UsernameRejected(detail="A user name must not contain control or invisible characters.")
    if len(_scripts(name)) > 1:
        raise errors.UsernameRejected(detail="A user name must not mix scripts that look alike.")
    return name


def create(new: NewUser, now: datetime) -> User:
    """Create one user.

    Raises:
        errors.UsernameRejected, errors.PasswordRejected, errors.UsernameTaken: nothing was written.
    """
    user = draft(new, now)
    try:
        with db.writing() as session:
            session.add(user)
            audit.record(session, "user_created", now, user_id=user.id)
    except IntegrityError:
        raise errors.UsernameTaken from None
    return user


def check(new: NewUser) -> str:
    """Return the canonical user name if `new` can be created.

    Nothing is hashed, so this is fast.

    Raises:
        errors.UsernameRejected, errors.PasswordRejected: with the reason as their detail.
    """
    username = check_username(new.username)
    if new.password_hash is None:
        passwords.policy.check(new.password or "", username)
    else:
        passwords.kind_of(new.password_hash)
    return username


def draft(new: NewUser, now: datetime) -> User:
    """Return a new user that is checked and hashed, but not stored.

    Raises:
        errors.UsernameRejected, errors.PasswordRejected: with the reason as their detail.
    """
    username = check(new)
    hashed = new.password_hash or passwords.hash_password(new.password or "")
    return User(
        id=db.new_id(now),
        username=username,
        password_hash=hashed,
        hash_kind=passwords.kind_of(hashed),
        credentials_changed_at=now,
        created_at=now,
        disabled_at=None,
    )


def add_all(users: Sequence[User], now: datetime) -> None:
    """Store drafts in one transaction: all of them or, on any error, none.

    Raises:
        errors.UsernameTaken: one of the names was taken in the meantime.
    """
    try:
        with db.writing() as session:
            session.add_all(users)
            for user in users:
                audit.record(session, "user_created", now, user_id=user.id, reason="imported")
    except IntegrityError:
        raise errors.UsernameTaken from None


def taken(usernames: Sequence[str]) -> set[str]:
    """Return which of the canonical names `usernames` are taken."""
    found: set[str] = set()
    with db.reading() as session:
        for start in range(0, len(usernames), 500):
            names = usernames[start : start + 500]
            found.update(session.scalars(sa.select(User.username).where(User.username.in_(names))))
    return found


def find(username: str) -> User:
    """Return the user with that name, in any spelling.

    Raises:
        errors.UserNotFound
    """
    with db.reading() as session:
        user = session.scalars(sa.select(User).where(User.username == canonical(username))).one_or_none()
    if user is None:
        raise errors.UserNotFound
    return user


def get(user_id: str) -> User:
    """Return the user with that id.

    Raises:
        errors.UserNotFound
    """
    with db.reading() as session:
        user = session.get(User, user_id)
    if user is None:
        raise errors.UserNotFound
    return user


def get_active(user_id: str) -> User:
    """Return the owner of an access token.

    Raises:
        errors.AccessTokenInvalid: the user was deleted or disabled.
    """
    try:
        user = get(user_id)
    except errors.UserNotFound:
        raise errors.AccessTokenInvalid(reason="user deleted") from None
    if user.disabled_at is not None:
        raise errors.AccessTokenInvalid(reason="user disabled")
    return user


def list_users(*, after: str = "", limit: int = 1000) -> Sequence[User]:
    """Return one page of users by name, starting after the name `after`."""
    with db.reading() as session:
        page = sa.select(User).where(User.username > after).order_by(User.username).limit(limit)
        return session.scalars(page).all()


def with_unverifiable_hash(*, limit: int) -> Sequence[str]:
    """Return names of users whose password hash is malformed or too expensive."""
    with db.reading() as session:
        names = sa.select(User.username).where(User.hash_kind == "").order_by(User.username).limit(limit)
        return session.scalars(names).all()


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
def disable(user: User, now: datetime) -> int:
    """Disable `user` and revoke their sessions; return how many were live."""
    with db.writing() as session:
        disabling = sa.update(User).where(User.id == user.id, User.disabled_at.is_(None)).values(disabled_at=now)
        if session.connection().execute(disabling).rowcount:
            audit.record(session, "user_disabled", now, user_id=user.id)
        return len(revoke_where(session, Session.user_id == user.id, "user_disabled", now))


@db.retried
def enable(user: User, now: datetime) -> None:
    """Enable `user`. The sessions that `disable` revoked stay revoked."""
    with db.writing() as session:
        enabling = sa.update(User).where(User.id == user.id, User.disabled_at.is_not(None)).values(disabled_at=None)
        if session.connection().execute(enabling).rowcount:
            audit.record(session, "user_enabled", now, user_id=user.id)


@db.retried
def unlock(user: User, now: datetime) -> None:
    """Clear the failed attempts on the account, which ends its lockout."""
    with db.writing() as session:
        session.execute(lockout.clearing("password", user.username))
        audit.record(session, "user_unlocked", now, user_id=user.id)


@db.retried
def _set_password(user: User, hashed: str, now: datetime) -> int:
    with db.writing() as session:
        if _store_password(session, user, hashed, now, User.id == user.id):
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


def _scripts(name: str) -> set[str]:
    return {script for char in name for script in _SCRIPTS if unicodedata.name(char, "").startswith(script)}
