"""The limits of mail: per recipient, per client address, and in all."""

from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, orm
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import config, db
from tokenapp.encryption import keyed_digest
from tokenapp.models import AddressCount

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
MINUTE: Final = timedelta(minutes=1)
PER_RECIPIENT: Final = ((5, HOUR), (10, DAY))
NOTICES: Final = ((5, HOUR), (10, DAY))
_ALL: Final = "mail of all"


class OverLimitError(Exception):
    """A limit is reached: the transaction is rolled back, and nothing is mailed."""


def allow_client(client: str, now: datetime) -> bool:
    """Count a request for mail, and return whether its client may make it."""
    parameters = _parameters(f"mail client {keyed_digest(client)}", config.current().mail_client_limit, HOUR, now)
    return bool(db.execute_now(_counting(db.current().engine.dialect.name), parameters))


def count_request(writer: orm.Session, kind: str, address: str, now: datetime) -> None:
    """Count a mail that was requested for a canonical address.

    The limit per minute is for each kind, so that a password can be reset right after the registration.

    Raises:
        OverLimitError
    """
    _count(writer, _ALL, config.current().mail_daily_limit, DAY, now)
    recipient = keyed_digest(f"mail to {address}")
    _count(writer, f"mail {kind} {recipient}", 1, MINUTE, now)
    for limit, window in PER_RECIPIENT:
        _count(writer, f"mail {window} {recipient}", limit, window, now)


def total_is_reached(now: datetime) -> bool:
    """Return whether no more mail can be requested until a day has passed."""
    counted = sa.select(AddressCount.count).where(AddressCount.key == _ALL, AddressCount.expires_at > now)
    return any(row[0] >= config.current().mail_daily_limit for row in db.execute_now(counted))


def count_notice(writer: orm.Session, user_id: str, kind: str, now: datetime) -> None:
    """Count a notice. Requests of strangers do not use up this limit.

    Raises:
        OverLimitError
    """
    for limit, window in NOTICES:
        _count(writer, f"notice {kind} {window} {user_id}", limit, window, now)


def _count(writer: orm.Session, key: str, limit: int, window: timedelta, now: datetime) -> None:
    statement = _counting(db.current().engine.dialect.name)
    if not writer.connection().execute(statement, _parameters(key, limit, window, now)).all():
        raise OverLimitError


def _parameters(key: str, limit: int, window: timedelta, now: datetime) -> dict[str, Any]:
    return {"key": key, "limit": limit, "now": now, "ends_at": now + window}


@cache
def _counting(dialect: str) -> sa.Executable:
    """Return the statement that counts and returns a row, below the limit."""
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    now, ends_at = bindparam("now", type_=db.Instant()), bindparam("ends_at", type_=db.Instant())
    is_past = AddressCount.expires_at <= now
    statement: sa.Executable = (
        insert(AddressCount)
        .values(key=bindparam("key"), count=1, expires_at=ends_at)
        .on_conflict_do_update(
            index_elements=[AddressCount.key],
            set_={
                "count": sa.case((is_past, 1), else_=AddressCount.count + 1),
                "expires_at": sa.case((is_past, ends_at), else_=AddressCount.expires_at),
            },
            where=sa.or_(is_past, AddressCount.count < bindparam("limit", type_=sa.Integer)),
        )
        .returning(AddressCount.count)
    )
    return statement
