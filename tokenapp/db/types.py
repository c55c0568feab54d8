"""Moments in time, in Python and in SQL."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, with its zone on both sides, on databases that keep zones and on those that forget them."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC; a time without zone is a bug of the caller."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = "a time without a zone"
            raise ValueError(message)
        return value.astimezone(UTC).replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class not_before(FunctionElement[datetime]):  # noqa: N801 -- reads as the SQL function that it is
    """The later of a given moment and the database's own clock when the statement really runs.

    A statement that was held up (a stopped server, a frozen worker) must not date its effect back to when it was sent.
    """

    type = Instant()
    inherit_cache = True
    name = "not_before"


@compiles(not_before, "postgresql")
def _not_before_postgresql(element: not_before, compiler: Any, **kw: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **kw)}, clock_timestamp())"


@compiles(not_before, "sqlite")
def _not_before_sqlite(element: not_before, compiler: Any, **kw: Any) -> str:
    return f"max({compiler.process(element.clauses, **kw)}, strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"
