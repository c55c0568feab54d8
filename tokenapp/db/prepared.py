"""Statements that are written once and then run on the driver's own connection.

SQLAlchemy writes the SQL, converts what goes in and comes out, and lends the connection. What it does beyond that at
each execution costs several times as much as the database itself takes to find and change a row by its key.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError

_Convert = Callable[[Any], Any]


class _Written(NamedTuple):
    """A statement in the words of one database, with what converts its parameters and its columns."""

    sql: str
    converts: Mapping[str, _Convert]
    fixed: Mapping[str, Any]
    positions: Sequence[str] | None
    columns: tuple[_Convert, ...]
    row: Callable[..., Any]


@dataclass(slots=True)
class Call:
    """One statement with its values, in the driver's words; its rows, once they are committed."""

    sql: str
    values: Any
    rows: Sequence[Any] = ()


class Prepared:
    """One statement, run again and again as a transaction of its own."""

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase) -> None:
        self.writes = statement.is_dml
        self._statement = statement
        self._written: dict[str, _Written] = {}

    def call(self, dialect: Dialect, parameters: Mapping[str, Any]) -> Call:
        """Make what the driver is to be asked."""
        written = self._written.get(dialect.name) or self._write(dialect)
        given = {**written.fixed, **parameters}
        values: Any = {name: convert(given[name]) for name, convert in written.converts.items()}
        if written.positions is not None:
            values = [values[name] for name in written.positions]
        return Call(written.sql, values)

    def rows(self, dialect: Dialect, call: Call) -> Sequence[Any]:
        """Return the rows of a call that was carried out, with their columns as attributes."""
        written = self._written[dialect.name]
        columns, row = written.columns, written.row
        return [row(*[convert(value) for convert, value in zip(columns, values, strict=True)]) for values in call.rows]

    def _write(self, dialect: Dialect) -> _Written:
        compiled = self._statement.compile(dialect=dialect)
        columns = [*self._statement.exported_columns]
        binds = compiled.binds
        written = _Written(
            sql=str(compiled),
            converts={
                name: _of(bind.type, dialect).bind_processor(dialect) or _as_it_is for name, bind in binds.items()
            },
            fixed={name: bind.value for name, bind in binds.items()},
            positions=compiled.positiontup,
            columns=tuple(_of(column.type, dialect).result_processor(dialect, None) or _as_it_is for column in columns),
            row=cast("Callable[..., Any]", namedtuple("Row", [column.name for column in columns])),  # noqa: PYI024 -- its columns are the statement's
        )
        self._written[dialect.name] = written
        return written


def carry_out(engine: Engine, calls: Sequence[Call], begin: str = "BEGIN") -> None:
    """Run the statements of `calls` in one transaction, and commit it.

    Raises:
        sqlalchemy.exc.DBAPIError: as if SQLAlchemy had run them; none is committed.
    """
    lent: Any = None
    try:
        lent = engine.raw_connection()
        cursor = lent.cursor()
        if len(calls) > 1:
            cursor.execute(begin)
        for call in calls:
            cursor.execute(call.sql, call.values)
            # All rows, never only the first: SQLite commits, and reports a failed commit, at the end of the last one.
            call.rows = cursor.fetchall()
        if len(calls) > 1:
            cursor.execute("COMMIT")
    except engine.dialect.loaded_dbapi.Error as error:
        gone = lent is not None and engine.dialect.is_disconnect(error, lent.dbapi_connection, None)
        if gone:
            # As SQLAlchemy does: what ended this connection ended the others that were opened before.
            engine.pool._invalidate(lent, error)  # noqa: SLF001 -- dispose() would leave those in use open beside new ones
        base = engine.dialect.loaded_dbapi.Error
        raise DBAPIError.instance(
            calls[0].sql, None, error, base, hide_parameters=True, connection_invalidated=gone, dialect=engine.dialect
        ) from error
    finally:
        if lent is not None:
            lent.close()  # which takes back what was not committed


def _of(kind: Any, dialect: Dialect) -> Any:
    return kind.dialect_impl(dialect)


def _as_it_is(value: Any) -> Any:
    return value
