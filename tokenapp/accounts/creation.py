"""Create users: one, or all of an import."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from tokenapp import audit, db, errors, passwords
from tokenapp.accounts import login_names
from tokenapp.accounts.addresses import check_address
from tokenapp.accounts.names import canonical, check_username
from tokenapp.models import LoginName, User


@dataclass(frozen=True, slots=True)
class NewUser:
    """The data of a new user.

    It has a password or, if the user is imported, a password hash or neither.
    """

    username: str
    password: str | None = None
    password_hash: str | None = None
    email: str | None = None
    email_verified: bool = False
    locale: str | None = None


def create(new: NewUser, now: datetime) -> User:
    """Create one user.

    Raises:
        errors.UsernameRejected, errors.AddressRejected, errors.PasswordRejected, errors.UsernameTaken,
            errors.AddressTaken: nothing was written.
    """
    user = draft(new, now)
    try:
        with db.writing() as session:
            add(session, user, now)
    except IntegrityError:
        check_free(user.username, user.email)
        raise errors.UsernameTaken from None
    return user


def check_free(username: str, email: str | None) -> None:
    """Check that no user has the name or the address.

    Raises:
        errors.UsernameTaken, errors.AddressTaken
    """
    found = taken([canonical(name) for name in (username, email) if name is not None])
    if canonical(username) in found:
        raise errors.UsernameTaken
    if found:
        raise errors.AddressTaken


def add(session: orm.Session, user: User, now: datetime, reason: str | None = None) -> None:
    """Store a draft in a transaction.

    Raises:
        sqlalchemy.exc.IntegrityError: the name or the address is taken.
    """
    session.add(user)
    login_names.store(session, [user])
    audit.record(session, "user_created", now, user_id=user.id, reason=reason)


def check(new: NewUser) -> str:
    """Return the canonical user name if `new` can be created.

    Nothing is hashed, so this is fast.

    Raises:
        errors.UsernameRejected, errors.AddressRejected, errors.PasswordRejected: with the reason as their detail.
    """
    username = check_username(new.username)
    if new.email is not None:
        check_address(new.email)
    if new.password is not None:
        passwords.policy.check(new.password, username)
    elif new.password_hash is not None:
        passwords.kind_of(new.password_hash)
    return username


def draft(new: NewUser, now: datetime) -> User:
    """Return a new user that is checked and hashed, but not stored.

    Raises:
        errors.UsernameRejected, errors.AddressRejected, errors.PasswordRejected: with the reason as their detail.
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
        email=new.email,
        email_verified_at=now if new.email_verified else None,
        locale=new.locale,
    )


def add_all(users: Sequence[User], now: datetime) -> None:
    """Store drafts in one transaction: all of them or, on any error, none.

    Raises:
        errors.UsernameTaken: one of the names was taken in the meantime.
    """
    try:
        with db.writing() as session:
            session.add_all(users)
            login_names.store(session, users)
            for user in users:
                audit.record(session, "user_created", now, user_id=user.id, reason="imported")
    except IntegrityError:
        raise errors.UsernameTaken from None


def taken(names: Sequence[str]) -> set[str]:
    """Return which of the canonical names or addresses are taken."""
    found: set[str] = set()
    with db.reading() as session:
        for start in range(0, len(names), 500):
            some = names[start : start + 500]
            found.update(session.scalars(sa.select(LoginName.name).where(LoginName.name.in_(some))))
    return found
