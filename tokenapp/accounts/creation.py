"""Create users: one, or all of an import."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tokenapp import audit, db, errors, passwords
from tokenapp.accounts.names import check_username
from tokenapp.models import User


@dataclass(frozen=True, slots=True)
class NewUser:
    """The data of a new user.

    It has a password or, if the user is imported, a password hash or neither.
    """

    username: str
    password: str | None = None
    password_hash: str | None = None


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
    if new.password is not None:
        passwords.policy.check(new.password, username)
    elif new.password_hash is not None:
        passwords.kind_of(new.password_hash)
    return username


def draft(new: NewUser, now: datetime) -> User:
    """Return a new user that is checked and hashed, but not stored.

    Raises:
        errors.UsernameRejected, errors.PasswordRejected: with the reason as their detail.
    """
    username = check(new)
    hashed = new.password_hash if new.password is None else passwords.hash_password(new.password)
    return User(
        id=db.new_id(now),
        username=username,
        password_hash=hashed or "",
        hash_kind=passwords.kind_of(hashed) if hashed else "",
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
