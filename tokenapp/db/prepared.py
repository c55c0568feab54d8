"""Statements that are written once and then run on the driver's own connection.

SQLAlchemy writes the SQL, converts what goes in and comes out, and lends the connection. What it does beyond that at
each execution costs several times as much as the database itself takes to find and change a row by its key.
"""

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError

_Convert = Callable[[Any], Any]


class _Written(NamedTuple):
    """A statement in the words of one database, with what converts its parameters and its columns."""

    sql: str
    parameters: tuple[tuple[str, Any, _Convert | None], ...]
    positional: bool
    columns: tuple[_Convert | None, ...]
    row: Callable[..., Any]


class Prepared:
    """One statement, run again and again as a transaction of its own."""

    def __init__(self, statement: sa.Select[Any] | sa.UpdateBase) -> None:
        self.writes = statement.is_dml
        self._statement = statement
        self._written: dict[str, _Written] = {}

    def run(self, engine: Engine, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Return the rows, with their columns as attributes, once they are committed.

        Raises:
            sqlalchemy.exc.DBAPIError: as if SQLAlchemy had run it.
        """
        dialect = engine.dialect
        written = self._written.get(dialect.name) or self._write(dialect)
        values: Any = {
            name: convert(parameters.get(name, value)) if convert else parameters.get(name, value)
            for name, value, convert in written.parameters
        }
        if written.positional:
            values = tuple(values[name] for name, _, _ in written.parameters)
        with _borrowed(engine, written.sql) as cursor:
            cursor.execute(written.sql, values)
            # All rows, never only the first: SQLite commits, and reports a failed commit, at the end of the last one.
            rows = cursor.fetchall()
        return [
            written.row(
                *[convert(value) if convert else value for convert, value in zip(written.columns, row, strict=True)]
            )
            for row in rows
        ]

    def _write(self, dialect: Dialect) -> _Written:
        compiled = self._statement.compile(dialect=dialect)
        columns = [*self._statement.exported_columns]
        names = compiled.positiontup or [*compiled.binds]
        written = _Written(
            sql=str(compiled),
            parameters=tuple(
                (name, compiled.binds[name].value, _of(compiled.binds[name].type, dialect).bind_processor(dialect))
                for name in names
            ),
            positional=bool(compiled.positional),
            columns=tuple(_of(column.type, dialect).result_processor(dialect, None) for column in columns),
            row=cast("Callable[..., Any]", namedtuple("Row", [column.name for column in columns])),  # noqa: PYI024 -- its columns are the statement's
        )
        self._written[dialect.name] = written
        return written


def _of(kind: Any, dialect: Dialect) -> Any:
    return kind.dialect_impl(dialect)


@contextmanager
def _borrowed(engine: Engine, sql: str) -> Iterator[Any]:
    """Lend a cursor, on which each statement is a transaction; turn the driver's errors into SQLAlchemy's."""
    lent: Any = None
    try:
        lent = engine.raw_connection()
        yield lent.cursor()
    except engine.dialect.loaded_dbapi.Error as error:
        gone = lent is not None and engine.dialect.is_disconnect(error, lent.dbapi_connection, None)
        if gone:
            # As SQLAlchemy does: what ended this connection ended the others that were opened before.
            engine.pool._invalidate(lent, error)  # noqa: SLF001 -- dispose() would leave those in use open beside new ones
        base = engine.dialect.loaded_dbapi.Error
        raise DBAPIError.instance(
            sql, None, error, base, hide_parameters=True, connection_invalidated=gone, dialect=engine.dialect
        ) from error
    finally:
        if lent is not None:
            lent.close()
