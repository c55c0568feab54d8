"""The database handle: SQLite or PostgreSQL, each set up so that what is acknowledged is kept and a hang ends."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any, Final, TypeVar, cast

import sqlalchemy as sa
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, orm
from sqlalchemy.engine import Connection, Engine

from tokenapp.config import Settings
from tokenapp.db import postgresql, sqlite
from tokenapp.db.conflicts import is_conflict, retried
from tokenapp.db.faults import (
    REQUEST_BUDGET,
    Breaker,
    DatabaseAwayError,
    end_budget,
    is_fault,
    lock_was_taken,
    start_budget,
    time_left,
)
from tokenapp.db.prepared import Call, Prepared, carry_out
from tokenapp.db.turns import Turns
from tokenapp.db.types import Instant, not_before

__all__ = [
    "Base",
    "Instant",
    "Prepared",
    "db",
    "end_budget",
    "execute_now",
    "first_id",
    "init_app",
    "is_fault",
    "kept",
    "make_way",
    "new_id",
    "not_before",
    "reading",
    "retried",
    "run",
    "start_budget",
    "time_left",
    "was_away",
    "writing",
]


class Base(orm.DeclarativeBase):
    """The base of all models, with names for constraints so that migrations can speak of them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)
_Kept = TypeVar("_Kept")
_LONGEST_REST: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Access:
    """The ways to one application's database; `single` makes a transaction of each statement."""

    engine: Engine
    single: Engine
    server: Breaker
    writes: Breaker
    turns: Turns | None
    kept: dict[type, Any] = field(default_factory=dict)

    def turn(self, *, writes: bool) -> AbstractContextManager[None]:
        """Wait for the turn to write, where only one can and there is a point in it."""
        if not writes or self.turns is None:
            return nullcontext()
        self.writes.look()
        return self.turns.turn()

    def carry_out(self, call: Call, *, writes: bool) -> None:
        """Run a statement and commit it, if it writes then with others where only one can write at a time."""
        if writes and self.turns is not None:
            self.writes.look()
            self.turns.share(call, self._write)
        else:
            with _Guard(self, writes=writes):
                carry_out(self.engine, (call,))

    def _write(self, calls: Sequence[Call]) -> None:
        with _Guard(self, writes=True):
            carry_out(self.engine, calls, sqlite.BEGIN)


def init_app(app: Flask, settings: Settings) -> None:
    """Bind the handle to `app`; no connection is opened before the first statement (workers fork first)."""
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
    access = _Access(
        engine,
        engine.execution_options(single_statement=True),
        Breaker(),
        Breaker(),
        None if kind is postgresql else Turns(),
    )
    kind.set_up(engine, access.server)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("single_statement"):
            connection.exec_driver_sql(kind.BEGIN)

    app.extensions["tokenapp.db"] = access


@retried
def run(statement: Prepared, **parameters: Any) -> Sequence[Any]:
    """Run a statement that was prepared, as a transaction of its own; return its rows once it is committed."""
    access = _access()
    dialect = access.engine.dialect
    call = statement.call(dialect, parameters)
    access.carry_out(call, writes=statement.writes)
    return statement.rows(dialect, call)


@retried
def execute_now(statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[sa.Row[Any]]:
    """Run one statement as a transaction of its own; return its rows once it is committed."""
    access = _access()
    writes = statement.is_dml
    with access.turn(writes=writes), _Guard(access, writes=writes), access.single.connect() as connection:
        result = connection.execute(statement, parameters)
        # All rows, never only the first: SQLite commits, and reports a failed commit, at the end of the last one.
        return result.all() if result.returns_rows else ()


@contextmanager
def reading() -> Iterator[orm.Session]:
    """Give a session for queries, in which each statement sees all that is committed by then and no lock is held."""
    access = _access()
    with _Guard(access, writes=False), orm.Session(access.single, expire_on_commit=False) as session:
        yield session


@contextmanager
def writing() -> Iterator[orm.Session]:
    """Give a session whose work is one transaction, committed at the end of the block.

    A function around it is marked as `retried`, if doing it again from its start does the same.
    """
    access = _access()
    with (
        access.turn(writes=True),
        _Guard(access, writes=True),
        orm.Session(access.engine, expire_on_commit=False) as session,
        session.begin(),
    ):
        yield session


def make_way(began: float) -> None:
    """Let others write, between two batches of which one began then, by the monotonic clock, for as long as it took.

    On SQLite what was written is moved from the log into the file first: a little each time, where otherwise one of the
    others would have to move it all, and its client to wait.
    """
    if _access().turns is not None:
        execute_now(sa.text("PRAGMA wal_checkpoint(PASSIVE)"))
    sleep(min(monotonic() - began, _LONGEST_REST))


def kept(kind: type[_Kept]) -> _Kept:
    """Return the one object of that kind that this process keeps about the database of the application at work."""
    known = _access().kept
    return cast("_Kept", known[kind] if kind in known else known.setdefault(kind, kind()))


def was_away(since: timedelta, until: timedelta) -> bool:
    """Whether this process knows that the database was away `since` ago, and that it came back `until` ago or later."""
    return _access().server.was_away(since.total_seconds(), until.total_seconds())


def first_id(moment: datetime) -> str:
    """Return what sorts before all ids made at `moment` or later, and after all made before it."""
    return f"{int(moment.timestamp() * 1000):012x}"


def new_id(now: datetime) -> str:
    """Make an id that sorts by time, for the primary key's sake, and holds 128 random bits, for the guesser's."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_urlsafe(16)}"


def _access() -> _Access:
    app = cast("Any", current_app)._get_current_object()  # noqa: SLF001 -- documented; the proxy costs three times as much
    return cast("_Access", app.extensions["tokenapp.db"])


class _Guard:
    """Refuses at once what would only wait: nothing is asked of a server that hangs, nor writes of one that is locked.

    Reads say nothing about a lock that only writes wait for, so they neither wait for it nor end the waiting.
    """

    __slots__ = ("_breakers",)

    def __init__(self, access: _Access, *, writes: bool) -> None:
        self._breakers = (access.server, access.writes) if writes else (access.server,)

    def __enter__(self) -> None:
        left = time_left()
        if (
            left is not None and left <= 0
        ):  # as after a stop of this process: whoever asked has gone, and asked elsewhere
            raise DatabaseAwayError("the time of the request is over")
        for breaker in self._breakers:
            breaker.admit()

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            self._breakers[-1].close()
        elif lock_was_taken(error):
            self._breakers[-1].trip()
        elif isinstance(error, Exception) and (not is_fault(error) or is_conflict(error)):
            self._breakers[-1].close()
