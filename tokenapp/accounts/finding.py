"""Find users by name, by id, and page by page."""

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from tokenapp import db, errors
from tokenapp.accounts.names import canonical
from tokenapp.models import LoginName, User


def find(subject: str, *, deleted: bool = False) -> User:
    """Return the user with that name or address, in any spelling, or that id.

    Args:
        deleted: whether the id may be that of a deleted user.

    Raises:
        errors.UserNotFound: no user has it, or it is the name of one and the id of another.
    """
    owner = sa.select(LoginName.user_id).where(LoginName.name == canonical(subject)).scalar_subquery()
    named = sa.or_(User.id == owner, User.id == subject)
    with db.reading() as session:
        users = session.scalars(sa.select(User).where(named, sa.true() if deleted else User.deleted_at.is_(None))).all()
    if len(users) > 1:  # a name that was chosen to be mistaken for an id
        raise errors.UserNotFound(detail="That is the name of one user and the id of another. Use their other ones.")
    if not users:
        raise errors.UserNotFound
    return users[0]


def get(user_id: str) -> User:
    """Return the user with that id.

    Raises:
        errors.UserNotFound
    """
    with db.reading() as session:
        user = session.get(User, user_id)
    if user is None or user.deleted_at is not None:
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


def list_users(*, search: str = "", after: str = "", limit: int = 1000) -> Sequence[User]:
    """Return one page of the users whose name or address contains `search`.

    They are sorted by name, starting after the name `after`.
    """
    page = sa.select(User).where(User.username > after, User.deleted_at.is_(None)).order_by(User.username).limit(limit)
    if search:
        found = (column.icontains(canonical(search), autoescape=True) for column in (User.username, User.email))
        page = page.where(sa.or_(*found))
    with db.reading() as session:
        return session.scalars(page).all()


def names_of(user_ids: Iterable[str]) -> Mapping[str, str]:
    """Return the names of the users with these ids, without those of deleted ones."""
    named = sa.select(User.id, User.username).where(User.id.in_(set(user_ids)), User.deleted_at.is_(None))
    return {row.id: row.username for row in db.execute_now(named)}


def with_unverifiable_hash(*, limit: int) -> Sequence[str]:
    """Return names of users whose password hash is malformed or too expensive."""
    with db.reading() as session:
        # The hash is empty if the user has no password, as a deleted user.
        names = sa.select(User.username).where(User.hash_kind == "", User.password_hash != "")
        names = names.order_by(User.username).limit(limit)
        return session.scalars(names).all()
