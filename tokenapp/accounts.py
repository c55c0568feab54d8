"""Users: created, authenticated, given new passwords, disabled and enabled."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tokenapp import db, errors, events, password_rule, passwords, throttle
from tokenapp.models import Session, User

MAX_USERNAME: Final = 64
MAX_PASSWORD_BYTES: Final = password_rule.MAX_BYTES
_INVISIBLE_CATEGORIES: Final = ("C", "Zl", "Zp")
_SCRIPTS: Final = ("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "HEBREW", "ARABIC", "CHEROKEE")


@dataclass(frozen=True, slots=True)
class NewUser:
    """What it takes to create a user: the password in clear or, for people who move here, its hash."""

    username: str
    password: str | None = None
    password_hash: str | None = None


def normalize(username: str) -> str:
    """Bring `username` to its one form: NFKC, casefolded, trimmed; doing it twice changes nothing."""
    folded = username
    for _ in range(3):
        previous, folded = folded, unicodedata.normalize("NFKC", folded).casefold().strip()
        if previous == folded:
            break
    return folded


def check_username(username: str) -> str:
    """Return the one form of `username`, fit for a new user.

    Raises:
        errors.UsernameRejected: with the reason as its detail.
    """
    name = normalize(username)
    if not 1 <= len(name) <= MAX_USERNAME:
        raise errors.UsernameRejected(detail=f"A user name has 1 to {MAX_USERNAME} characters.")
    if any(unicodedata.category(char).startswith(_INVISIBLE_CATEGORIES) for char in name):
        raise errors.UsernameRejected(detail="A user name has no control or invisible characters.")
    if len(_scripts(name)) > 1:
        raise errors.UsernameRejected(detail="A user name must not mix alphabets that look alike.")
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
            events.record(session, "user_created", now, user_id=user.id)
    except IntegrityError:
        raise errors.UsernameTaken from None
    return user


def check(new: NewUser) -> str:
    """Return the one form of the user's name if `new` is fit to be created; nothing is hashed, so it takes no time.

    Raises:
        errors.UsernameRejected, errors.PasswordRejected: with the reason as their detail.
    """
    username = check_username(new.username)
    if new.password_hash is None:
        password_rule.check(new.password or "", username)
    elif not passwords.is_hash(new.password_hash):
        raise errors.PasswordRejected(detail="The password hash is neither argon2 nor one of Werkzeug's.")
    return username


def draft(new: NewUser, now: datetime) -> User:
    """Make a user that is checked and hashed, but not stored.

    Raises:
        errors.UsernameRejected, errors.PasswordRejected: with the reason as their detail.
    """
    username = check(new)
    return User(
        id=db.new_id(now),
        username=username,
        password_hash=new.password_hash or passwords.hash_password(new.password or ""),
        password_changed_at=now,
        created_at=now,
        disabled_at=None,
    )


def add_all(users: Sequence[User], now: datetime) -> None:
    """Store drafts in one transaction: all of them or, on any error, none.

    Raises:
        errors.UsernameTaken: one of the names was taken meanwhile.
    """
    try:
        with db.writing() as session:
            session.add_all(users)
            for user in users:
                events.record(session, "user_created", now, user_id=user.id, reason="imported")
    except IntegrityError:
        raise errors.UsernameTaken from None


def taken(usernames: Sequence[str]) -> set[str]:
    """Tell which of `usernames`, in their one form, belong to somebody."""
    found: set[str] = set()
    with db.reading() as session:
        for start in range(0, len(usernames), 500):
            names = usernames[start : start + 500]
            found.update(session.scalars(sa.select(User.username).where(User.username.in_(names))))
    return found


def authenticate(username: str, password: str, now: datetime) -> User:
    """Return the user whose name and password these are.

    One answer, in the same time, for unknown user, wrong password and disabled user; each counts as a failure. A hash
    of an older kind is replaced by one made as hashes are made now.

    Raises:
        errors.InvalidCredentials, errors.TooManyAttempts, errors.ServiceUnavailable
    """
    name = normalize(username)
    with throttle.turn(name):
        failures = throttle.admit(name, now)
        with db.reading() as session:
            user = session.scalars(sa.select(User).where(User.username == name)).one_or_none()
        try:
            matches = passwords.verify(user.password_hash if user else None, password)
        except errors.ServiceUnavailable:
            throttle.withdraw(name, failures, now)
            raise
        good = user is not None and matches and user.disabled_at is None
        if good:
            throttle.forgive(name)
    if user is None or not good:
        reason = "unknown user" if user is None else "user disabled" if matches else "wrong password"
        events.record_alone("sign_in_failed", now, user_id=user.id if user else None, reason=reason)
        raise errors.InvalidCredentials(reason=reason)
    if passwords.needs_upgrade(user.password_hash):
        _upgrade_hash(user, passwords.hash_password(password))
    return user


def find(username: str) -> User:
    """Return the user of that name, however it is spelled.

    Raises:
        errors.UserNotFound
    """
    with db.reading() as session:
        user = session.scalars(sa.select(User).where(User.username == normalize(username))).one_or_none()
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


def list_users(*, after: str = "", limit: int = 1000) -> Sequence[User]:
    """Return one page of users in the order of their names, those after the name `after`."""
    with db.reading() as session:
        page = sa.select(User).where(User.username > after).order_by(User.username).limit(limit)
        return session.scalars(page).all()


def set_password(user: User, password: str, now: datetime) -> int:
    """Give `user` a new password and end all of their sessions, in one transaction; return how many ended.

    Raises:
        errors.PasswordRejected: nothing was written.
    """
    return _replace_password(user, password, now, User.id == user.id)


def change_password(user: User, password: str, now: datetime, *, keep: str) -> int:
    """Give `user`, who has just proven to know the old one, a new password; end all of their sessions but `keep`.

    All in one transaction; return how many ended.

    Raises:
        errors.PasswordRejected: nothing was written.
        errors.InvalidCredentials: meanwhile the password was changed, or the user disabled; nothing was written.
    """
    same = (User.id == user.id, User.disabled_at.is_(None), User.password_changed_at == user.password_changed_at)
    return _replace_password(user, password, now, sa.and_(*same), keep=keep)


@db.retried
def disable(user: User, now: datetime) -> int:
    """Keep `user` from signing in and end all of their sessions, in one transaction; return how many ended."""
    with db.writing() as session:
        disabling = sa.update(User).where(User.id == user.id, User.disabled_at.is_(None)).values(disabled_at=now)
        if session.connection().execute(disabling).rowcount:
            events.record(session, "user_disabled", now, user_id=user.id)
        return len(events.end_sessions(session, Session.user_id == user.id, "user_disabled", now))


@db.retried
def enable(user: User, now: datetime) -> None:
    """Let `user` sign in again; the sessions that `disable` ended stay ended."""
    with db.writing() as session:
        enabling = sa.update(User).where(User.id == user.id, User.disabled_at.is_not(None)).values(disabled_at=None)
        if session.connection().execute(enabling).rowcount:
            events.record(session, "user_enabled", now, user_id=user.id)


@db.retried
def unlock(user: User, now: datetime) -> None:
    """Forget the failed attempts on the account, so that its password is looked at again."""
    with db.writing() as session:
        session.execute(throttle.forgiving(user.username))
        events.record(session, "user_unlocked", now, user_id=user.id)


def _replace_password(user: User, password: str, now: datetime, who: sa.ColumnElement[bool], *, keep: str = "") -> int:
    password_rule.check(password, user.username)
    ended = _store_password(user, passwords.hash_password(password), now, who, keep)
    if ended is None:
        raise errors.InvalidCredentials(reason="user changed meanwhile")
    return ended


@db.retried
def _store_password(user: User, hashed: str, now: datetime, who: sa.ColumnElement[bool], keep: str) -> int | None:
    change = {"password_hash": hashed, "password_changed_at": now}
    with db.writing() as session:
        changed = session.connection().execute(sa.update(User).where(who).values(change)).rowcount
        if changed:
            session.execute(throttle.forgiving(user.username))
            events.record(session, "password_changed", now, user_id=user.id)
            others = sa.and_(Session.user_id == user.id, Session.id != keep)
            return len(events.end_sessions(session, others, "password_changed", now))
        events.record(session, "sign_in_failed", now, user_id=user.id, reason="user changed meanwhile")
        return None


def _upgrade_hash(user: User, hashed: str) -> None:
    """Replace the hash unless it changed meanwhile: a new password must win over the old one's upgrade."""
    same = (User.id == user.id, User.password_hash == user.password_hash)
    db.execute_now(sa.update(User).where(*same).values(password_hash=hashed))


def _scripts(name: str) -> set[str]:
    return {script for char in name for script in _SCRIPTS if unicodedata.name(char, "").startswith(script)}
