"""The database handle: SQLite or PostgreSQL, each set up so that what is acknowledged is kept and a hang ends."""

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from psycopg.abc import RV, PQGen
from sqlalchemy import event, orm
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

from tokenapp.config import Settings

REQUEST_BUDGET: Final = 3.0
SERVER_TIMEOUT_MS: Final = 2500
_PROBE_INTERVAL: Final = 1.0
_PING_AFTER_IDLE: Final = 1.0
_POSTGRESQL: Final = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 3000,
    "options": f"-c statement_timeout={SERVER_TIMEOUT_MS} -c lock_timeout={SERVER_TIMEOUT_MS}",
}
_SQLITE: Final = {"timeout": SERVER_TIMEOUT_MS / 1000, "isolation_level": None, "check_same_thread": False}

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
_single: WeakKeyDictionary[Engine, Engine] = WeakKeyDictionary()
_breakers: WeakKeyDictionary[Engine, "Breaker"] = WeakKeyDictionary()


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


class Breaker:
    """While a server does not answer, lets one caller a second ask it; the others are refused at once.

    Without it each thread would wait out its own time limit in turn, and callers in the queue many of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retry_at: float | None = None

    def admit(self) -> None:
        """Raise psycopg.OperationalError unless the server answers as far as known, or it is time to ask again."""
        if self._retry_at is None:
            return
        with self._lock:
            if self._retry_at is not None and monotonic() < self._retry_at:
                message = "the database did not answer a moment ago"
                raise psycopg.OperationalError(message)
            self._retry_at = monotonic() + REQUEST_BUDGET + _PROBE_INTERVAL

    def trip(self) -> None:
        """Note that the server did not answer in time."""
        self._retry_at = monotonic() + _PROBE_INTERVAL

    def close(self) -> None:
        """Note that the server answered."""
        self._retry_at = None


class BoundedConnection(psycopg.Connection[Any]):
    """A PostgreSQL connection that gives up, and closes, when the request's time is over.

    No server-side limit does that: a stopped server process keeps acknowledging packets and runs no timer.
    """

    breaker: Breaker

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server, but not past the request's deadline."""
        deadline = _deadline.get()
        if deadline is None:
            return super().wait(gen, interval, timeout)
        try:
            answer = super().wait(gen, interval, max(0.01, deadline - monotonic()))
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 -- the only name psycopg gives to this
            self.breaker.trip()
            self.pgconn.finish()
            message = "the database did not answer in time"
            raise psycopg.OperationalError(message) from None
        self.breaker.close()
        return answer


def init_app(app: Flask, settings: Settings) -> None:
    """Bind the handle to `app`; no connection is opened before the first statement (workers fork first)."""
    postgresql = settings.database_url.drivername.startswith("postgresql")
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "connect_args": _POSTGRESQL if postgresql else _SQLITE,
        "hide_parameters": True,
        "pool_size": settings.threads + 1,
        "max_overflow": settings.threads + 1,
        "pool_timeout": REQUEST_BUDGET - 1,
    }
    db.init_app(app)
    with app.app_context():
        engine = db.engine
    _breakers[engine] = Breaker()
    if postgresql:
        _single[engine] = engine.execution_options(isolation_level="AUTOCOMMIT")
        _set_up_postgresql(engine, _breakers[engine])
    else:
        _single[engine] = engine.execution_options(single_statement=True)
        _set_up_sqlite(engine)


def start_budget() -> None:
    """Give the request that starts now its share of time for the database."""
    _deadline.set(monotonic() + REQUEST_BUDGET)


def end_budget() -> None:
    """Let what the thread does from now on take the time that it takes."""
    _deadline.set(None)


def execute_now(statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[sa.Row[Any]]:
    """Run one statement as a transaction of its own; return its rows once it is committed."""
    engine = db.engine
    with _guarded(engine), _single[engine].connect() as connection:
        result = connection.execute(statement, parameters)
        # All rows, never only the first: SQLite commits, and reports a failed commit, at the end of the last one.
        return result.all() if result.returns_rows else ()


@contextmanager
def reading() -> Iterator[orm.Session]:
    """Give a session for queries, in which each statement sees all that is committed by then and no lock is held."""
    with orm.Session(_single[db.engine], expire_on_commit=False) as session:
        yield session


@contextmanager
def writing() -> Iterator[orm.Session]:
    """Give a session whose work is one transaction, committed at the end of the block."""
    with _guarded(db.engine), orm.Session(db.engine, expire_on_commit=False) as session, session.begin():
        yield session


def is_fault(error: BaseException) -> bool:
    """Whether `error` means that the database is away, hung or overloaded, rather than that we asked nonsense."""
    if isinstance(error, DBAPIError):
        return not isinstance(error, IntegrityError | DataError)
    return isinstance(error, PoolTimeoutError | psycopg.OperationalError)


def first_id(moment: datetime) -> str:
    """Return what sorts before all ids made at `moment` or later, and after all made before it."""
    return f"{int(moment.timestamp() * 1000):012x}"


def new_id(now: datetime) -> str:
    """Make an id that sorts by time, for the primary key's sake, and holds 128 random bits, for the guesser's."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_urlsafe(16)}"


@contextmanager
def _guarded(engine: Engine) -> Iterator[None]:
    breaker = _breakers[engine]
    breaker.admit()
    try:
        yield
    except OperationalError as error:
        if "database is locked" in str(error.orig):
            breaker.trip()
        raise
    if engine.dialect.name == "sqlite":
        breaker.close()


def _set_up_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A plain BEGIN that turns into a write later fails with "database is locked" instead of waiting its turn.
        if not connection.get_execution_options().get("single_statement"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_up_postgresql(engine: Engine, breaker: Breaker) -> None:
    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Dialect, _record: Any, args: Any, options: dict[str, Any]) -> BoundedConnection:
        deadline = _deadline.get()
        if deadline is not None and monotonic() >= deadline:
            message = "no time is left to connect to the database"
            raise psycopg.OperationalError(message)
        try:
            connection = BoundedConnection.connect(*args, **options)
        except psycopg.errors.ConnectionTimeout:
            breaker.trip()
            raise
        connection.breaker = breaker
        return connection

    @event.listens_for(engine, "checkin")
    def stamp(_connection: Any, record: Any) -> None:
        record.info["used"] = monotonic()

    @event.listens_for(engine, "checkout")
    def ping(connection: Any, record: Any, _proxy: Any) -> None:
        if monotonic() - record.info.get("used", monotonic()) < _PING_AFTER_IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.OperationalError as error:
            raise DisconnectionError from error
