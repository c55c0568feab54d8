"""The names by which users sign in: user names and addresses, in one namespace."""

from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp.accounts.names import canonical
from tokenapp.models import LoginName, User

_BATCH: Final = 500


def by_name(name: str) -> sa.Select[User]:
    """Return the query for the user who can sign in with a canonical name."""
    return named(name).where(LoginName.signs_in.is_(True))


def named(name: str, *, locked: bool = False) -> sa.Select[User]:
    """Return the query for the user who has a canonical name, verified or not.

    Args:
        locked: whether a concurrent change or deletion of the user waits for the transaction.
    """
    query = sa.select(User).join(LoginName, LoginName.user_id == User.id).where(LoginName.name == name)
    return query.with_for_update(read=True, of=User) if locked else query


def store(session: orm.Session, users: Iterable[User]) -> None:
    """Replace the stored names of users who may be new or renamed.

    Call it in the transaction of each change of a name or an address.

    Raises:
        sqlalchemy.exc.IntegrityError: another user has one of the names.
    """
    session.flush()
    changed = [*users]
    for start in range(0, len(changed), _BATCH):
        some = changed[start : start + _BATCH]
        session.execute(sa.delete(LoginName).where(LoginName.user_id.in_([user.id for user in some])))
        session.execute(sa.insert(LoginName), [row for user in some for row in _rows(user)])


def _rows(user: User) -> list[dict[str, object]]:
    names = {canonical(user.username): True}
    if user.email is not None:
        names.setdefault(canonical(user.email), user.email_verified_at is not None)
    return [{"name": name, "user_id": user.id, "signs_in": signs_in} for name, signs_in in names.items()]
