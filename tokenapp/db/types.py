"""How moments are kept, and which of two is the later one, in Python and in SQL."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

_Convert = Callable[[Any], Any]
_UTC: Final = "+00:00"


class _Text(sqlite.DATETIME):
    """A moment in UTC as SQLAlchemy has SQLite keep it, written and read in a tenth of the time."""

    def bind_processor(self, dialect: Dialect) -> _Convert:
        """Write ``2026-01-31 23:59:59.000001``."""
        del dialect
        return lambda value: value and value.astimezone(UTC).isoformat(" ", "microseconds").removesuffix(_UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> _Convert:
        """Read it."""
        del dialect, coltype
        return lambda value: value and datetime.fromisoformat(value + _UTC)


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, with its zone on both sides, on databases that keep zones and on those that forget them."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose how it is kept."""
        text: Any = _Text
        return dialect.type_descriptor(text() if dialect.name == "sqlite" else sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Take any zone; a time without one is a bug of the caller."""
        del dialect
        if value is not None and value.tzinfo is None:
            message = "a time without a zone"
            raise ValueError(message)
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back UTC."""
        del dialect
        return value and value.astimezone(UTC)


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
