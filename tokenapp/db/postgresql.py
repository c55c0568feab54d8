"""PostgreSQL: connections that give up when the request's time is over."""

import math
import os
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, Self, cast

import psycopg
from psycopg.abc import RV, PQGen, PQGenConn
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DisconnectionError

from tokenapp.db.breaker import Breaker
from tokenapp.db.deadline import LONG_WAIT, SERVER_TIMEOUT_MS, at_most, time_left

_LOCK_TIMEOUT_MS: Final = 1000
_PING_AFTER_IDLE: Final = 1.0
# Each statement is a transaction of its own, except between a BEGIN and a COMMIT. Names can be in any script, whatever
# PGCLIENTENCODING, the role or the database says.
CONNECT: Final[Mapping[str, Any]] = {"autocommit": True, "client_encoding": "utf8"}
# Where the URL or libpq's environment variables say otherwise, they take precedence.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 3000,
}
_VARIABLES: Final = {"connect_timeout": "PGCONNECT_TIMEOUT", "options": "PGOPTIONS"}
_LIMITS: Final = f"-c statement_timeout={SERVER_TIMEOUT_MS} -c lock_timeout={_LOCK_TIMEOUT_MS}"
MIGRATION_TIMEOUT_MS: Final = 600_000  # for each statement, and to wait for the migrations of other hosts
# Without a request, as in an operator's command, a statement has the time to scan a large table.
_PATIENT: Final = f"-c statement_timeout={MIGRATION_TIMEOUT_MS} -c lock_timeout={_LOCK_TIMEOUT_MS}"
_TWO_HOSTS: Final = 2.0
_USUAL_PORT: Final = "5432"
# A request that waited in the queue behind others, which got no answer for 3 s, must not wait for as long again.
_DOUBTFUL_TIMEOUT: Final = 1.2
_Host = tuple[str, str]
BEGIN: Final = "BEGIN"


class BoundedConnection(psycopg.Connection[Any]):
    """A PostgreSQL connection that closes when the request's time is over.

    No server-side limit does that: a stopped server process keeps acknowledging packets and runs no timer.
    """

    breaker: Breaker

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        """Connect within the request's time; psycopg's own limit is at least 2 s."""
        steps = super()._connect_gen(conninfo)
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted  # every 0.1 s, even if nothing is ready
                if (left := time_left()) is not None and left <= 0:
                    message = "the database did not accept the connection in time"
                    raise psycopg.errors.ConnectionTimeout(message)
                wanted = steps.send(ready)
        except StopIteration as result:
            return cast("Self", result.value)

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for the server, but not past the request's deadline."""
        left = time_left()
        if left is None:
            return super().wait(gen, interval, timeout)
        asked_at = monotonic()
        try:
            answer = super().wait(gen, interval, max(0.01, left))
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 -- the only name psycopg gives to this
            self.pgconn.finish()
            # The statement may be slow, or wait for a lock, by its own fault: only a fresh connection can tell.
            self.breaker.suspect()
            self.breaker.note_outage(asked_at)
            message = "the database did not answer in time"
            raise psycopg.OperationalError(message) from None
        except psycopg.OperationalError:
            if self.closed:
                self.breaker.note_outage(asked_at)
            raise
        if monotonic() - asked_at >= LONG_WAIT:
            self.breaker.note_outage(asked_at, over=True)
        self.breaker.note_answer()
        return answer


class _Hosts:
    """The hosts of the URL, in the order in which to try them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._order: list[_Host] = []
        self.latest: _Host | None = None

    def choose(self, options: Mapping[str, Any], left: float) -> list[_Host]:
        """Return the hosts to try next; empty if there is only one.

        An unreachable host costs 2 seconds, so a request tries one or two of them.
        """
        if not self._order:
            hosts, ports = (str(options.get(name, "")).split(",") for name in ("host", "port"))
            ports = ports if len(ports) == len(hosts) else ports * len(hosts)
            self._order = [*zip(hosts, ports, strict=True)]
        if len(self._order) == 1:
            return []
        return self._order if left == math.inf else self._order[: 2 if left >= _TWO_HOSTS else 1]

    def note_failure(self, tried: list[_Host]) -> None:
        """Continue with the host after those that were tried."""
        with self._lock:
            if self._order[: len(tried)] == tried:  # otherwise another thread has moved them
                self._order = self._order[len(tried) :] + tried

    def note_success(self, answered: _Host) -> bool:
        """Try this host first from now on; return whether it replaced another one."""
        with self._lock:
            replaced = self.latest not in {None, answered}
            self.latest = answered
            self._order.sort(key=lambda pair: (pair[0], pair[1] or _USUAL_PORT) != answered)
        return replaced


def set_up(engine: Engine, breaker: Breaker) -> None:
    """Make the engine open bounded connections, and check idle ones before use."""
    hosts = _Hosts()

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Dialect, _record: Any, args: Any, options: dict[str, Any]) -> BoundedConnection:
        asked_at = monotonic()
        with at_most(_DOUBTFUL_TIMEOUT if breaker.in_outage else None) as left:
            if left <= 0:
                message = "no time is left to connect to the database"
                raise psycopg.OperationalError(message)
            tried = hosts.choose(options, left)
            try:
                connection = _open(args, options, tried, breaker, patient=left == math.inf)
            except psycopg.OperationalError:
                # With several hosts, this is the error of the last one.
                if monotonic() - asked_at >= LONG_WAIT:
                    breaker.trip()
                breaker.note_outage(asked_at)
                hosts.note_failure(tried)
                raise
        breaker.close()
        if hosts.note_success((connection.info.host, str(connection.info.port))):
            # The former host does not answer any more: each of its connections would be waited for in turn.
            breaker.tripped_at = asked_at
        return connection

    @event.listens_for(engine, "checkin")
    def stamp(_connection: Any, record: Any) -> None:
        record.info["used"] = monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: Any, record: Any, _proxy: Any) -> None:
        _check_idle(engine, breaker, connection, record.info.get("used", math.inf))


def _open(
    args: Any, options: Mapping[str, Any], hosts: list[_Host], breaker: Breaker, *, patient: bool
) -> BoundedConnection:
    """Connect, and wait for an answer: a pooler accepts connections without one."""
    environ = {name: os.environ[variable] for name, variable in _VARIABLES.items() if variable in os.environ}
    chosen = {**_DEFAULTS, **environ, **options}
    # Of two values for one parameter, the server takes the last.
    chosen["options"] = f"{_PATIENT if patient else _LIMITS} {chosen.get('options', '')}".strip()
    if hosts:
        chosen.update(
            {name: ",".join(each) for name, each in zip(("host", "port"), zip(*hosts, strict=True), strict=True)}
        )
    connection = BoundedConnection.connect(*args, **chosen)
    connection.breaker = breaker
    _prepare_nothing_behind_pooler(connection)
    return connection


def _check_idle(engine: Engine, breaker: Breaker, connection: Any, used: float) -> None:
    """Raise DisconnectionError if a fresh connection must replace this one."""
    if used != math.inf and breaker.take_suspicion():
        raise DisconnectionError("a fresh connection shows whether the server answers")
    if used < breaker.tripped_at:
        # If the server's host is gone, each connection would be waited for in turn.
        raise DisconnectionError("the server has not answered since this connection was used")
    if monotonic() - used < _PING_AFTER_IDLE:
        return
    try:
        engine.dialect.do_ping(connection)
    except psycopg.OperationalError as error:
        raise DisconnectionError from error


def _prepare_nothing_behind_pooler(connection: BoundedConnection) -> None:
    """Disable prepared statements behind a connection pooler.

    A pooler may run each transaction on a different connection to the server, where a prepared statement is unknown
    or, worse, another statement has its name.
    """
    try:
        answering = connection.execute("SELECT pg_backend_pid()").fetchone()
    except psycopg.Error:
        connection.close()
        raise
    if answering != (connection.info.backend_pid,):
        connection.prepare_threshold = None
