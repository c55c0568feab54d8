"""The version of the database tables, and whether they can be written."""

import logging
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tokenapp import db

log = logging.getLogger(__name__)
# The newest migration. A test compares it with Alembic's own view.
VERSION: Final = "0013"
_UPGRADE: Final = "run `flask db upgrade`"
_VERSIONS: Final = sa.table("alembic_version", sa.column("version_num", sa.String))
_STORED: Final = sa.select(_VERSIONS.c.version_num).scalar_subquery()
_MAY_WRITE: Final = "has_table_privilege('sessions', 'INSERT') AND has_table_privilege('sessions', 'UPDATE')"
_ON_POSTGRESQL: Final = sa.select(
    _STORED,
    sa.or_(
        sa.func.current_setting("transaction_read_only") == "on",
        sa.not_(sa.literal_column(f"({_MAY_WRITE})", sa.Boolean)),
    ),
)
# It changes nothing, but SQLite begins a write for it.
_WRITE: Final = sa.update(_VERSIONS).values(version_num=_VERSIONS.c.version_num).where(sa.false())


class State(NamedTuple):
    """The stored version, None without one, and whether writes are rejected."""

    version: str | None
    read_only: bool

    @property
    def problem(self) -> str | None:
        """What keeps this program from using the tables, or None."""
        if self.version is None:
            return f"the database has no tables: {_UPGRADE}"
        if self.version < VERSION:
            return f"the database has version {self.version}, the program needs {VERSION}: {_UPGRADE}"
        if self.version > VERSION:
            return (
                f"this program is older than the database: it needs version {VERSION}, and the database has"
                f" {self.version}"
            )
        return None


def state() -> State:
    """Return the state of the tables in the database.

    Raises:
        sqlalchemy.exc.DBAPIError: the database is unavailable, or lacks tables.
    """
    if db.current().engine.dialect.name == "postgresql":
        row: Any = db.execute_now(_ON_POSTGRESQL)[0]
        return State(row[0], read_only=row[1])
    return State(db.execute_now(sa.select(_STORED))[0][0], read_only=_rejects_writes())


def log_problem() -> None:
    """Log what keeps this program from using the tables, if there is anything."""
    db.start_budget()
    try:
        found = state()
        problem = found.problem or ("the database is read-only" if found.read_only else None)
    except Exception as error:
        if not db.is_fault(error):
            raise
        problem = str(getattr(error, "orig", error)).strip().partition("\n")[0]
    finally:
        db.end_budget()
    if problem is not None:
        log.critical("%s", problem)


def _rejects_writes() -> bool:
    try:
        db.execute_now(_WRITE)
    except DBAPIError as error:
        if "readonly" not in str(error.orig):
            raise
        return True
    return False
