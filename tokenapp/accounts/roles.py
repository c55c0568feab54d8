"""The roles of users, which access tokens contain."""

import re
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, db, errors
from tokenapp.models import User
from tokenapp.sessions import revoked_ids

MAX_ROLES: Final = 20
_ROLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,31}")


def check_role(role: str) -> None:
    """Check that `role` is a name for a role.

    Raises:
        errors.RoleRejected
    """
    if not _ROLE.fullmatch(role):
        raise errors.RoleRejected


@db.retried
def add_role(user: User, role: str, now: datetime) -> list[str]:
    """Give `user` a role, and return all of theirs.

    Access tokens have it from the next refresh on.

    Raises:
        errors.RoleRejected: the name is not allowed, or the user has too many roles.
        errors.UserNotFound: the user was deleted.
    """
    check_role(role)
    with db.writing() as writer:
        stored = _locked(writer, user)
        roles = stored.roles.split()
        if role in roles:
            return roles
        if len(roles) >= MAX_ROLES:
            raise errors.RoleRejected(detail=f"A user has at most {MAX_ROLES} roles.")
        roles = sorted([*roles, role])
        stored.roles, stored.roles_id = " ".join(roles), stored.roles_id or db.new_id(now)
        audit.record(writer, "role_added", now, user_id=user.id, reason=role)
        return roles


@db.retried
def remove_role(user: User, role: str, now: datetime) -> list[str]:
    """Take a role from `user`, and return those that are left.

    All access tokens of the user that have roles are revoked, and the next refresh renews them. Sessions go on.

    Raises:
        errors.UserNotFound: the user was deleted.
    """
    with db.writing() as writer:
        stored = _locked(writer, user)
        roles = stored.roles.split()
        if role not in roles:
            return roles
        roles.remove(role)
        revoked_ids.add(writer, [stored.roles_id], now)
        stored.roles, stored.roles_id = " ".join(roles), db.new_id(now) if roles else ""
        audit.record(writer, "role_removed", now, user_id=user.id, reason=role)
        return roles


def _locked(writer: orm.Session, user: User) -> User:
    """Return the user as stored, whose row stays locked until the commit."""
    stored = writer.scalars(sa.select(User).where(User.id == user.id).with_for_update()).one_or_none()
    if stored is None or stored.deleted_at is not None:
        raise errors.UserNotFound
    return stored
