"""Create users: one, or all of an import."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from tokenapp import audit, db, errors, passwords
from tokenapp.accounts import login_names
from tokenapp.accounts.addresses import check_address
from tokenapp.accounts.names import canonical, check_username
from tokenapp.models import LoginName, User

BATCH: Final = 2000  # users that one transaction of an import stores


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


def add_all(users: Sequence[User], now: datetime, advance: Callable[[int], object] = lambda _number: None) -> None:
    """Store drafts in batches of `BATCH`, each in one transaction.

    Others can write between two batches. On an error the batches before it stay, and nothing of the others is stored.

    Args:
        users: the drafts.
        now: the time of creation.
        advance: is called after each batch with its number of users.

    Raises:
        errors.UsernameTaken: one of the names was taken in the meantime.
    """
    for start in range(0, len(users), BATCH):
        began = monotonic()
        batch = users[start : start + BATCH]
        events = [audit.event("user_created", now, user_id=user.id, reason="imported") for user in batch]
        try:
            with db.writing() as session:
                session.add_all(batch)
                login_names.store(session, batch)
                audit.record_all(session, events)
        except IntegrityError:
            raise errors.UsernameTaken from None
        advance(len(batch))
        db.yield_to_writers(began)


def taken(names: Sequence[str]) -> set[str]:
    """Return which of the canonical names or addresses are taken."""
    found: set[str] = set()
    with db.reading() as session:
        for start in range(0, len(names), 500):
            some = names[start : start + 500]
            found.update(session.scalars(sa.select(LoginName.name).where(LoginName.name.in_(some))))
    return found
