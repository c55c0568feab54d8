"""One-time tokens: mailed to an address, stored as digests, redeemed once.

A token is bound to its purpose, its address and, if there is one, its user. A new one replaces the previous one for the
same purpose and address.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import db, errors
from tokenapp.models import OneTimeToken, User

Purpose = Literal["registration", "invitation", "reset", "address", "undo"]
LIFETIMES: Final[Mapping[Purpose, timedelta]] = {
    "registration": timedelta(hours=24),
    "invitation": timedelta(days=7),
    "reset": timedelta(hours=1),
    "address": timedelta(hours=1),
    "undo": timedelta(days=7),
}
KEPT: Final = timedelta(days=7)
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Binding(NamedTuple):
    """What a token is bound to; `address` is the canonical form of `email`."""

    purpose: Purpose
    address: str
    email: str
    user_id: str | None
    locale: str | None


def issue(writer: orm.Session, binding: Binding, now: datetime) -> str:
    """Store a new token in the transaction of `writer`, and return it."""
    token = secrets.token_urlsafe(32)
    row: dict[str, Any] = {
        **binding._asdict(),
        "digest": _digest(token),
        "created_at": now,
        "expires_at": now + LIFETIMES[binding.purpose],
        "used_at": None,
    }
    insert: Any = postgresql.insert if db.current().engine.dialect.name == "postgresql" else sqlite.insert
    replaced = {name: value for name, value in row.items() if name not in {"purpose", "address"}}
    key = [OneTimeToken.purpose, OneTimeToken.address]
    writer.execute(insert(OneTimeToken).values(row).on_conflict_do_update(index_elements=key, set_=replaced))
    return token


def check(token: str, *purposes: Purpose, now: datetime) -> Binding:
    """Return what a live token is bound to, without using it up.

    Raises:
        errors.LinkInvalid: it is unknown, used, replaced, ended or expired, or has another purpose.
    """
    rows = db.execute_now(sa.select(*_COLUMNS).where(*_live(token, purposes, now)))
    if not rows:
        raise errors.LinkInvalid
    return _binding(rows[0])


def redeem(writer: orm.Session, token: str, *purposes: Purpose, now: datetime) -> Binding:
    """Use a token up, in the transaction of what it is exchanged for.

    One conditional UPDATE decides which of several redemptions succeeds. The user of the token is locked before it, as
    everywhere: a change of the user, which ends its tokens, locks in the same order.

    Raises:
        errors.LinkInvalid: as `check` does.
    """
    owner = sa.select(User.id).join(OneTimeToken, OneTimeToken.user_id == User.id)
    writer.connection().execute(owner.where(*_live(token, purposes, now)).with_for_update(of=User))
    using = sa.update(OneTimeToken).where(*_live(token, purposes, now)).values(used_at=now).returning(*_COLUMNS)
    row = writer.connection().execute(using).first()
    if row is None:
        raise errors.LinkInvalid
    return _binding(row)


def prune(now: datetime) -> int:
    """Delete tokens that expired a week ago; return how many."""
    old = sa.delete(OneTimeToken).where(OneTimeToken.expires_at < now - KEPT).returning(OneTimeToken.digest)
    return len(db.execute_now(old))


def _binding(row: Any) -> Binding:
    return Binding(*row)


def _live(token: str, purposes: tuple[Purpose, ...], now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    if not _FORM.fullmatch(token):
        raise errors.LinkInvalid
    return (
        OneTimeToken.digest == _digest(token),
        OneTimeToken.purpose.in_(purposes),
        OneTimeToken.used_at.is_(None),
        OneTimeToken.expires_at > now,
    )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


_COLUMNS: Final = (
    OneTimeToken.purpose,
    OneTimeToken.address,
    OneTimeToken.email,
    OneTimeToken.user_id,
    OneTimeToken.locale,
)
