"""Find users by name, by id, and page by page."""

from collections.abc import Sequence

import sqlalchemy as sa

from tokenapp import db, errors
from tokenapp.accounts.names import canonical
from tokenapp.models import User


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
