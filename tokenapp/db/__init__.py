"""The database handle for SQLite and PostgreSQL, with a limit for every wait."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, orm
from sqlalchemy.engine import Connection, Engine

from tokenapp.config import Settings
from tokenapp.db import postgresql, sqlite, statements
from tokenapp.db.breaker import Breaker, is_fault, is_file_locked
from tokenapp.db.deadline import (
    REQUEST_BUDGET,
    DatabaseUnavailableError,
    deadline,
    end_budget,
    extend_budget,
    start_budget,
    time_left,
)
from tokenapp.db.retries import is_conflict, retried
from tokenapp.db.statements import Call, Statement
from tokenapp.db.types import Instant, clock, not_before
from tokenapp.db.write_queue import WriteQueue

if TYPE_CHECKING:
    from flask import Flask

__all__ = [
    "REQUEST_BUDGET",
    "Base",
    "Database",
    "DatabaseUnavailableError",
    "Instant",
    "Statement",
    "clock",
    "current",
    "db",
    "deadline",
    "end_budget",
    "execute_now",
    "extend_budget",
    "first_id",
    "init_app",
    "is_fault",
    "new_id",
    "not_before",
    "per_process",
    "reading",
    "retried",
    "run",
    "start_budget",
    "time_left",
    "was_away",
    "writing",
    "yield_to_writers",
]


class Base(orm.DeclarativeBase):
    """The base of all models, with names for constraints, for migrations."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)
_State = TypeVar("_State")
_LONGEST_REST: Final = 0.1


@dataclass(frozen=True, slots=True)
class Database:
    """One application's database.

    Each statement on `single` is a transaction of its own.
    """

    engine: Engine
    single: Engine
    server: Breaker
    writes: Breaker
    queue: WriteQueue | None
    state: dict[type, Any] = field(default_factory=dict)

    def turn(self, *, writes: bool) -> AbstractContextManager[None]:
        """Return a context that excludes other writers of this process, on SQLite."""
        if not writes or self.queue is None:
            return nullcontext()
        self.writes.check()
        return self.queue.exclusive()

    def execute(self, call: Call, *, writes: bool) -> None:
        """Run and commit `call`, on SQLite together with the writes of waiting threads."""
        if writes and self.queue is not None:
            if self.writes.retry_at is not None:
                self.writes.check()
            self.queue.write(call, self._write)
        else:
            self._execute_alone(call, writes=writes)

    @retried
    def _execute_alone(self, call: Call, *, writes: bool) -> None:
        with _Guard(self, writes=writes):
            statements.execute(self.engine, (call,))

    def _write(self, calls: Sequence[Call]) -> None:
        with _Guard(self, writes=True):
            statements.execute(self.engine, calls, sqlite.BEGIN)


context: Final[ContextVar[Database]] = ContextVar("database")
current: Final = context.get


def init_app(app: "Flask", settings: Settings) -> Database:
    """Bind the handle to `app`; connections are opened later, after the fork."""
    kind: Any = postgresql if settings.database_url.drivername.startswith("postgresql") else sqlite
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "connect_args": kind.CONNECT,
        "hide_parameters": True,
        "pool_size": settings.threads + 1,
        "max_overflow": settings.threads + 1,
        "pool_timeout": REQUEST_BUDGET - 1,
    }
    db.init_app(app)
    with app.app_context():
        engine = db.engine
    single = engine.execution_options(single_statement=True)
    database = Database(engine, single, Breaker(), Breaker(), None if kind is postgresql else WriteQueue())
    kind.set_up(engine, database.server)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("single_statement"):
            connection.exec_driver_sql(kind.BEGIN)

    return database


def run(statement: Statement, **parameters: Any) -> Sequence[Any]:
    """Run `statement` as a transaction of its own and return its rows."""
    database = current()
    dialect = database.engine.dialect
    call = statement.bind(dialect, parameters)
    database.execute(call, writes=statement.writes)
    return statement.rows(dialect, call)


@retried
def execute_now(statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[sa.Row[Any]]:
    """Run a SQLAlchemy statement as a transaction of its own and return its rows."""
    database = current()
    writes = statement.is_dml
    with (
        database.turn(writes=writes),
        _Guard(database, writes=writes),
        database.single.connect() as connection,
    ):
        result = connection.execute(statement, parameters)
        # Fetch all rows: SQLite commits, and reports a failed commit, after the last one.
        return result.all() if result.returns_rows else ()


@contextmanager
def reading() -> Iterator[orm.Session]:
    """Provide a session for queries, each of which sees what is committed by then."""
    database = current()
    with _Guard(database, writes=False), orm.Session(database.single, expire_on_commit=False) as session:
        yield session


@contextmanager
def writing() -> Iterator[orm.Session]:
    """Provide a session for one transaction, committed at the end of the block.

    Decorate the function around it with `retried` if it can be repeated as a whole.
    """
    database = current()
    with (
        database.turn(writes=True),
        _Guard(database, writes=True),
        orm.Session(database.engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


def yield_to_writers(began: float) -> None:
    """Pause between two batches, so that others can write.

    On SQLite, first copy what was written from the log into the file. Otherwise a client's write would have to copy all
    of it at once.

    Args:
        began: the monotonic time at which the last batch began.
    """
    if current().queue is not None:
        execute_now(sa.text("PRAGMA wal_checkpoint(PASSIVE)"))
    sleep(min(monotonic() - began, _LONGEST_REST))


def per_process(kind: type[_State]) -> _State:
    """Return this process's one instance of `kind` for the current application."""
    state = current().state
    return cast("_State", state[kind] if kind in state else state.setdefault(kind, kind()))


def was_away(since: timedelta, until: timedelta) -> bool:
    """Return whether an outage began by `since` ago and ended within `until`."""
    return current().server.was_away(since.total_seconds(), until.total_seconds())


def first_id(moment: datetime) -> str:
    """Return a string that sorts before the ids made at `moment` or later."""
    return f"{int(moment.timestamp() * 1000):012x}"


def new_id(now: datetime) -> str:
    """Return a new id, ordered by time, with 128 random bits."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_urlsafe(16)}"


class _Guard:
    """Rejects calls that could only wait, and reports outcomes to the breakers.

    A lock delays writes only. So reads neither wait for the breaker of writes nor close it.
    """

    __slots__ = ("_breakers",)

    def __init__(self, database: Database, *, writes: bool) -> None:
        self._breakers = (database.server, database.writes) if writes else (database.server,)

    def __enter__(self) -> None:
        ends_at = deadline.get()
        if ends_at is not None and ends_at <= monotonic():  # as after this process was stopped
            raise DatabaseUnavailableError("the request's time is over")
        for breaker in self._breakers:
            if breaker.retry_at is not None:
                breaker.check()  # all of them first: a call that one rejects must not be another's probe
        for breaker in self._breakers:
            if breaker.retry_at is not None:
                breaker.admit()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        breaker = self._breakers[-1]
        if error is None:
            breaker.retry_at = None
        elif is_file_locked(error):
            breaker.trip()
        elif isinstance(error, Exception) and (not is_fault(error) or is_conflict(error)):
            breaker.close()
