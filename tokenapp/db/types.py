"""The column type for moments in time, and the later of two moments in SQL."""

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
_SQLITE: Final[Any] = sqlite.DATETIME


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, with its zone even on databases that store none.

    SQLite stores SQLAlchemy's own format, ``2026-01-31 23:59:59.000001``. The processors are overridden as a whole
    because SQLAlchemy's parse that format with a regular expression, which takes ten times as long.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that stores the moment."""
        stored: Any = _SQLITE() if dialect.name == "sqlite" else sa.DateTime(timezone=True)
        return dialect.type_descriptor(stored)

    def bind_processor(self, dialect: Dialect) -> _Convert:
        """Return the converter of parameters. Naive times are rejected with ValueError."""
        return _to_text if dialect.name == "sqlite" else _check_zone

    def result_processor(self, dialect: Dialect, coltype: object) -> _Convert:
        """Return the converter of results."""
        del coltype
        return _from_text if dialect.name == "sqlite" else _to_utc


def _to_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is not UTC:
        value = _to_utc(_check_zone(value))
    return value.isoformat(" ", "microseconds").removesuffix(_UTC)


def _from_text(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text + _UTC)


def _check_zone(value: Any) -> Any:
    if value is not None and value.tzinfo is None:
        message = "a time without a time zone"
        raise ValueError(message)
    return value


def _to_utc(value: Any) -> Any:
    return None if value is None else value.astimezone(UTC)


class not_before(FunctionElement[datetime]):  # noqa: N801 -- a SQL function
    """The later of a given moment and the database's clock at the time of execution.

    A statement that was delayed (a stopped server, a frozen worker) must not date its effect to when it was sent.
    """

    type = Instant()
    inherit_cache = True
    name = "not_before"


class clock(FunctionElement[datetime]):  # noqa: N801 -- a SQL function
    """The database's clock at the time of execution."""

    type = Instant()
    inherit_cache = True
    name = "clock"


@compiles(clock, "postgresql")
def _clock_postgresql(element: clock, compiler: Any, **kw: Any) -> str:
    del element, compiler, kw
    return "clock_timestamp()"


@compiles(clock, "sqlite")
def _clock_sqlite(element: clock, compiler: Any, **kw: Any) -> str:
    del element, compiler, kw
    return "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'"


@compiles(not_before, "postgresql")
def _not_before_postgresql(element: not_before, compiler: Any, **kw: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **kw)}, clock_timestamp())"


@compiles(not_before, "sqlite")
def _not_before_sqlite(element: not_before, compiler: Any, **kw: Any) -> str:
    return f"max({compiler.process(element.clauses, **kw)}, strftime('%Y-%m-%d %H:%M:%f', 'now') || '000')"
