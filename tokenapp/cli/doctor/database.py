"""The database: whether it can be used, its clock and its connections."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from tokenapp import db
from tokenapp.cli.command import describe
from tokenapp.cli.doctor.finding import Check, Finding
from tokenapp.config import Settings
from tokenapp.db import schema

_CLOCK_TOLERANCE: Final = timedelta(seconds=2)
_NO_LIMIT: Final = -1
_ALLOWED: Final = sa.text(
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true), '0')::int,"
    " (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),"
    " (SELECT datconnlimit FROM pg_database WHERE datname = current_database())"
)


def check_state(settings: Settings, _now: datetime) -> Iterator[Finding]:
    """Find what keeps the service from using the database; the other checks need it."""
    if settings.production and settings.database_url.drivername.startswith("sqlite"):
        yield Finding(
            "note",
            "DATABASE_URL",
            "it is SQLite",
            "only processes on this machine can share it, and not over a network file system",
            "use PostgreSQL before you add a second host",
        )
    try:
        state = schema.state()
    except Exception as error:
        if not db.is_fault(error):
            raise
        yield Finding(
            "error",
            "DATABASE_URL",
            describe(error) or type(error).__name__,
            "users cannot sign in or refresh",
            "check that it runs and is reachable, then run `flask db upgrade`",
        )
        return
    if state.problem is not None:
        yield Finding(
            "error",
            "migrations",
            state.problem.partition(": run")[0],
            "requests fail where the tables differ",
            "run `flask db upgrade` of the newest version that you use, and restart the service with it",
        )
    if state.read_only:
        yield Finding(
            "error",
            "DATABASE_URL",
            "the database is read-only, like a standby server, or for a role or a file without the right to write",
            "users cannot sign in, refresh or sign out",
            "name the primary server, for example with target_session_attrs=read-write, or grant the right to write",
        )


def _check_clock(_settings: Settings, now: datetime) -> Iterator[Finding]:
    if db.db.engine.dialect.name != "postgresql":
        return
    database_time = db.execute_now(sa.select(sa.func.clock_timestamp(type_=db.Instant())))[0][0]
    difference = abs(now - database_time)
    if difference > _CLOCK_TOLERANCE:
        yield Finding(
            "error",
            "clock",
            f"this machine's differs from the database's by {difference.total_seconds():.0f} s",
            "grace periods and lifetimes are wrong by as much",
            "synchronize both with a time service (NTP)",
        )


def _check_connections(settings: Settings, _now: datetime) -> Iterator[Finding]:
    if db.db.engine.dialect.name != "postgresql" or _is_pooled():
        return
    row: Any = db.execute_now(_ALLOWED)[0]
    allowed = min(limit for limit in row if limit != _NO_LIMIT)
    needed = settings.web_concurrency * (settings.threads * 2 + 2)
    if needed > allowed:
        yield Finding(
            "warning",
            "TOKENAPP_THREADS",
            f"this host can open {needed} connections, and PostgreSQL allows {allowed}",
            "under load, requests get a 503",
            "lower WEB_CONCURRENCY or TOKENAPP_THREADS, raise max_connections or the role's limit, or use PgBouncer",
        )


def _is_pooled() -> bool:
    """Return whether a pooler is between this program and the server."""
    with db.db.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        return driver.prepare_threshold is None


CHECKS: Final[tuple[Check, ...]] = (_check_clock, _check_connections)
