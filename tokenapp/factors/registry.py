"""The kinds of second factors, and what changes with the first and the last."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, config, db, errors
from tokenapp.factor_models import Passkey, PendingSignIn, RecoveryCode, Totp
from tokenapp.factors import recovery_codes
from tokenapp.models import User

Kind = Literal["totp", "passkey"]
# What makes a user's sign-in need a second step: the rows of each kind. A new kind is added here.
_CONFIRMED: Final[Mapping[Kind, sa.Select[str]]] = {
    "totp": sa.select(Totp.user_id).where(Totp.confirmed_at.is_not(None)),
    "passkey": sa.select(Passkey.user_id),
}


def kinds_to_set_up() -> list[Kind]:
    """Return the kinds that a sign-in can set up; passkeys need a domain."""
    return ["totp", "passkey"] if config.current().rp_id else ["totp"]


def kinds_of(user: User) -> list[str]:
    """Return the kinds of second factors that `user` has."""
    return _found(user, _CONFIRMED)


def methods_of(user: User) -> list[str]:
    """Return the methods of the second step that `user` can use now."""
    if not user.second_factor:
        return []
    return _found(user, {**_usable(), "recovery_code": sa.select(RecoveryCode.user_id)})


def added(writer: orm.Session, user: User, kind: Kind, now: datetime) -> list[str] | None:
    """Note that `user`, locked, has a new factor, in that transaction.

    Pending sign-ins end. Returns recovery codes for the first factor.
    """
    first = not user.second_factor
    user.second_factor = True
    writer.execute(sa.delete(PendingSignIn).where(PendingSignIn.user_id == user.id))
    audit.record(writer, "factor_added", now, user_id=user.id, reason=kind)
    return recovery_codes.replace(writer, user.id, now, "first factor") if first else None


def removed(writer: orm.Session, user: User, kind: Kind, now: datetime, *, usable: bool = True) -> None:
    """Note that `user`, locked, has lost a factor, in that transaction.

    Pending sign-ins end, and so do the recovery codes with the last factor.

    Args:
        usable: whether it was one that the user could use.

    Raises:
        errors.LastWayToSignIn: the user could not sign in any more, or no longer as the settings require.
    """
    if _has(writer, user, _CONFIRMED):
        if usable and not _has(writer, user, _usable()):
            raise errors.LastWayToSignIn(detail="Your passkeys are for another address. Add another factor first.")
    else:
        _require_other_way(user)
        user.second_factor = False
        writer.execute(sa.delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    writer.execute(sa.delete(PendingSignIn).where(PendingSignIn.user_id == user.id))
    audit.record(writer, "factor_removed", now, user_id=user.id, reason=kind)


def _usable() -> Mapping[Kind, sa.Select[str]]:
    """Return the rows of each kind, without the passkeys of another domain."""
    return {**_CONFIRMED, "passkey": _CONFIRMED["passkey"].where(Passkey.rp_id == config.current().rp_id)}


def _found(user: User, rows: Mapping[Any, sa.Select[str]]) -> list[str]:
    queries = [sa.select(sa.literal(name)).where(_of(user, query)) for name, query in rows.items()]
    return [row[0] for row in db.execute_now(sa.union_all(*queries))]


def _has(writer: orm.Session, user: User, rows: Mapping[Kind, sa.Select[str]]) -> bool:
    return bool(writer.scalar(sa.select(sa.or_(*(_of(user, query) for query in rows.values())))))


def _of(user: User, query: sa.Select[str]) -> sa.ColumnElement[bool]:
    return query.where(query.selected_columns[0] == user.id).exists()


def _require_other_way(user: User) -> None:
    """Check that `user` can sign in without any factor."""
    if config.current().second_factor == "required":
        raise errors.LastWayToSignIn(detail="A second factor is required. Add another one before you remove this one.")
    if not user.password_hash:
        raise errors.LastWayToSignIn(detail="This is the last way to sign in. Set a password before you remove it.")
    if user.password_short:
        raise errors.LastWayToSignIn(detail="Your password is too short to protect the account alone. Change it first.")
