"""The ids on the revocation list: of sessions, access keys and sets of roles."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, orm

from tokenapp import db
from tokenapp.models import Revocation, Session

_SINCE: Final = bindparam("since", type_=db.Instant())
_LAST: Final = bindparam("last", type_=sa.String)
_LIMIT: Final = bindparam("limit", type_=sa.Integer)


def page(since: datetime, last: str, limit: int) -> Sequence[Any]:
    """Return ids with the times of their revocation, oldest first.

    They were revoked at `since` or later and, at `since` itself, sort after `last`.
    """
    return db.execute_now(_PAGE, {"since": since, "last": last, "limit": limit})


def add(writer: orm.Session, ids: Sequence[str], now: datetime) -> None:
    """Put ids of access keys or sets of roles on the list, in a transaction."""
    if ids:
        revoked_at = db.not_before(sa.literal(now, db.Instant()))
        for each in ids:
            writer.execute(sa.insert(Revocation).values(id=each, revoked_at=revoked_at))


def prune(before: datetime) -> None:
    """Forget ids that were revoked before a time."""
    db.execute_now(sa.delete(Revocation).where(Revocation.revoked_at < before))


def _newest(kind: type[Session | Revocation]) -> sa.Select[Any]:
    """Return the statement for one table, which reads one page of its index."""
    later = sa.and_(kind.revoked_at >= _SINCE, sa.or_(kind.revoked_at > _SINCE, kind.id > _LAST))
    found = sa.select(kind.id, kind.revoked_at).where(later).order_by(kind.revoked_at, kind.id).limit(_LIMIT).subquery()
    return sa.select(found.c.id, found.c.revoked_at)


_PAGE: Final = sa.union_all(_newest(Session), _newest(Revocation)).order_by("revoked_at", "id").limit(_LIMIT)
