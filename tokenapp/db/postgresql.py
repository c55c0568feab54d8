"""PostgreSQL: connections that give up when the request's time is over."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DisconnectionError

from tokenapp.db.breaker import Breaker
from tokenapp.db.deadline import LONG_WAIT, SERVER_TIMEOUT_MS, time_left

_LOCK_TIMEOUT_MS: Final = 1000
_PING_AFTER_IDLE: Final = 1.0
CONNECT: Final[Mapping[str, Any]] = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 3000,
    # Each statement is a transaction of its own, except between a BEGIN and a COMMIT.
    "autocommit": True,
    "options": f"-c statement_timeout={SERVER_TIMEOUT_MS} -c lock_timeout={_LOCK_TIMEOUT_MS}",
}
# Without a request, as in an operator's command, a statement has the time to scan a large table.
_PATIENT: Final[Mapping[str, Any]] = {"options": f"-c statement_timeout=600000 -c lock_timeout={_LOCK_TIMEOUT_MS}"}
_TWO_HOSTS: Final = 2.0
_USUAL_PORT: Final = "5432"
_NO_HOST: Final = ("", "")
BEGIN: Final = "BEGIN"


class BoundedConnection(psycopg.Connection[Any]):
    """A PostgreSQL connection that closes when the request's time is over.

    No server-side limit does that: a stopped server process keeps acknowledging packets and runs no timer.
    """

    breaker: Breaker

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


@dataclass(slots=True)
class _Hosts:
    """The host that answered last, since when, and the failed attempts after it."""

    latest: tuple[str, str] = _NO_HOST
    since: float = math.inf
    missed: int = 0

    def choose(self, options: Mapping[str, Any], left: float | None, breaker: Breaker) -> Mapping[str, str]:
        """Return which hosts to try, in order: an unreachable one costs 2 seconds.

        The host that answered last comes first or, once it does not answer, last. A request has time for one or two
        hosts. After each failure the next host comes first.
        """
        hosts, ports = (str(options.get(name, "")).split(",") for name in ("host", "port"))
        if len(hosts) == 1:
            return {}
        pairs = [*zip(hosts, ports if len(ports) == len(hosts) else ports * len(hosts), strict=True)]
        suspect = breaker.tripped_at > self.since
        pairs.sort(key=lambda pair: ((pair[0], pair[1] or _USUAL_PORT) == self.latest) is suspect)
        first = self.missed % len(pairs)
        pairs = pairs[first:] + pairs[:first]
        if left is not None:
            pairs = pairs[: 2 if left >= _TWO_HOSTS else 1]
        return {name: ",".join(each) for name, each in zip(("host", "port"), zip(*pairs, strict=True), strict=True)}


def set_up(engine: Engine, breaker: Breaker) -> None:
    """Make the engine open bounded connections, and check idle ones before use."""
    hosts = _Hosts()

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Dialect, _record: Any, args: Any, options: dict[str, Any]) -> BoundedConnection:
        left = time_left()
        if left is not None and left <= 0:
            message = "no time is left to connect to the database"
            raise psycopg.OperationalError(message)
        asked_at = monotonic()
        options = {**options, **({} if left is not None else _PATIENT), **hosts.choose(options, left, breaker)}
        try:
            connection = BoundedConnection.connect(*args, **options)
        except psycopg.OperationalError as error:
            # With several hosts, this is the error of the last one.
            if isinstance(error, psycopg.errors.ConnectionTimeout) or monotonic() - asked_at >= LONG_WAIT:
                breaker.trip()
            breaker.note_outage(asked_at)
            hosts.missed += 1
            raise
        connection.breaker = breaker
        breaker.close()
        _prepare_nothing_behind_pooler(connection)
        host = (connection.info.host, str(connection.info.port))
        if hosts.latest not in {_NO_HOST, host}:
            # The former host does not answer any more: each of its connections would be waited for in turn.
            breaker.tripped_at = asked_at
        hosts.missed, hosts.latest = 0, host
        hosts.since = asked_at
        return connection

    @event.listens_for(engine, "checkin")
    def stamp(_connection: Any, record: Any) -> None:
        record.info["used"] = monotonic()

    @event.listens_for(engine, "checkout")
    def check(connection: Any, record: Any, _proxy: Any) -> None:
        _check_idle(engine, breaker, connection, record.info.get("used", math.inf))


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
