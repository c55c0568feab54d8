"""The rate limit of wrong passwords per client address.

Counts are in the database, or in a Redis or Valkey server if one is set. Windows are the minutes of the clock, so that
all processes and both stores agree on them.
"""

import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from tokenapp import config, db, errors
from tokenapp.models import AddressCount

WINDOW: Final = 60
SERVER_TIMEOUT: Final = 0.5
PRUNE_BATCH: Final = 1000
_RETRY_AFTER: Final = 1.0
log = logging.getLogger(__name__)


class Status(NamedTuple):
    """A client's limit, the rest of it, and the seconds until it is reset."""

    limit: int
    remaining: int
    reset: int


def network_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or an IPv6 /64 network."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)


def status(client: str) -> Status:
    """Return the status of `client` in the current minute."""
    limit = _limit()
    reset, remaining = db.per_process(_Limiter).get_window_stats(limit, "passwords", client)
    return Status(limit.amount, remaining, max(1, math.ceil(reset - time.time())))


def count_failure(client: str) -> None:
    """Count one wrong password of `client`."""
    db.per_process(_Limiter).hit(_limit(), "passwords", client)


def count_sign_in(user_id: str) -> None:
    """Count one successful sign-in of a user.

    Raises:
        errors.TooManyAttempts: the user signed in too often in this minute.
    """
    _count("sign-ins", user_id)


def count_unknown_key(client: str) -> None:
    """Count one unknown access key of `client`.

    Raises:
        errors.TooManyAttempts: there were too many in this minute.
    """
    _count("unknown keys", client)


def prune(now: datetime) -> int:
    """Delete the counts of past minutes in batches; return how many."""
    page = sa.select(AddressCount.key).where(AddressCount.expires_at <= now).limit(PRUNE_BATCH).scalar_subquery()
    statement = sa.delete(AddressCount).where(AddressCount.key.in_(page)).returning(AddressCount.key)
    deleted = 0
    while batch := len(db.execute_now(statement)):
        deleted += batch
    return deleted


class DatabaseStorage(Storage):
    """Counts in the database: one row per key, which later minutes reuse."""

    @property
    def base_exceptions(self) -> type[Exception]:
        """The exceptions that the library wraps on request."""
        return SQLAlchemyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add `amount` to the count of `key` and return the sum."""
        del expiry  # always a minute
        return self.add(key, amount)

    def add(self, key: str, amount: int, at_least: int = 0) -> int:
        """Add `amount` to the count of `key` and return the sum.

        Args:
            at_least: replaces a lower count before the addition.
        """
        now = time.time()
        times = {"now": now, "ends_at": _end_of_minute(now)}
        parameters: dict[str, Any] = {"key": key, "amount": amount, "at_least": at_least}
        parameters |= {name: datetime.fromtimestamp(moment, UTC) for name, moment in times.items()}
        return int(db.execute_now(_counting(db.current().engine.dialect.name), parameters)[0][0])

    def get(self, key: str) -> int:
        """Return the count of `key` in the current minute."""
        live = (AddressCount.key == key, AddressCount.expires_at > datetime.now(UTC))
        rows = db.execute_now(sa.select(AddressCount.count).where(*live))
        return int(rows[0][0]) if rows else 0

    def get_expiry(self, key: str) -> float:
        """Return the end of the current minute."""
        del key
        return _end_of_minute(time.time())

    def check(self) -> bool:
        """Return True, or raise if the database is unavailable."""
        return self.get("") == 0

    def clear(self, key: str) -> None:
        """Delete the count of `key`."""
        db.execute_now(sa.delete(AddressCount).where(AddressCount.key == key))

    def reset(self) -> int:
        """Delete all counts; return how many there were in the database."""
        return len(db.execute_now(sa.delete(AddressCount).returning(AddressCount.key)))


class FailoverStorage(DatabaseStorage):
    """Counts in a Redis or Valkey server; in the database while it does not respond.

    Each process remembers the counts that it read in the current minute, and raises lower ones to them. So a limit
    stays in force when the server fails, returns, or loses its data.
    """

    _ADDITION: Final = """
        local count = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), tonumber(ARGV[2])) + tonumber(ARGV[1])
        redis.call('SET', KEYS[1], count, 'EX', ARGV[3])
        return count
    """

    def __init__(self, url: str) -> None:
        import redis  # noqa: PLC0415 -- it takes 4 MB, and most installations have no such server
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        super().__init__()
        timeouts: dict[str, Any] = {"socket_timeout": SERVER_TIMEOUT, "socket_connect_timeout": SERVER_TIMEOUT}
        self._server: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **timeouts)
        self._addition = self._server.register_script(self._ADDITION)
        self._faults = (redis.RedisError, OSError, ValueError)
        self._retry_at = 0.0
        self._minute = 0
        self._seen: dict[str, int] = {}

    def add(self, key: str, amount: int, at_least: int = 0) -> int:
        """Add `amount` to the count of `key` and return the sum.

        A count lower than `at_least` or the remembered count is replaced before the addition.
        """
        name = self._name(key)
        floor = max(at_least, self._seen.get(name, 0))
        count = self._try_server(
            lambda: int(self._addition([name], [amount, floor, 2 * WINDOW])),
            partial(super().add, key, amount, floor),
        )
        return self._remember(name, count)

    def get(self, key: str) -> int:
        """Return the count of `key` in the current minute."""
        name = self._name(key)
        count = self._try_server(lambda: int(self._server.get(name) or 0), partial(super().get, key))
        return self._remember(name, count)

    def clear(self, key: str) -> None:
        """Delete the count of `key` everywhere."""
        name = self._name(key)
        self._seen.pop(name, None)
        self._try_server(lambda: int(self._server.delete(name)), int)
        super().clear(key)

    def reset(self) -> int:
        """Delete all counts; return how many there were in the database."""
        self._seen = {}
        self._try_server(lambda: sum(map(self._server.delete, self._server.scan_iter(match="tokenapp/*"))), int)
        return super().reset()

    def _name(self, key: str) -> str:
        """Return the server's name for the count of `key` in the current minute."""
        minute = int(time.time() // WINDOW)
        if minute != self._minute:
            self._minute, self._seen = minute, {}
        return f"{key}/{minute}"

    def _remember(self, name: str, count: int) -> int:
        count = max(count, self._seen.get(name, 0))
        if count:
            self._seen[name] = count
        return count

    def _try_server(self, server: Callable[[], int], database: Callable[[], int]) -> int:
        """Call `server`; if it fails, and for one second after that, call `database`."""
        if time.monotonic() >= self._retry_at:
            try:
                count = server()
            except self._faults as fault:
                if not self._retry_at:
                    log.warning("the rate limit server does not respond; counts go to the database: %s", fault)
                self._retry_at = time.monotonic() + _RETRY_AFTER
            else:
                if self._retry_at:
                    log.warning("the rate limit server responds again")
                self._retry_at = 0.0
                return count
        return database()


class _Limiter(FixedWindowRateLimiter):
    """One process's limiter, created at first use so that it connects after the fork."""

    def __init__(self) -> None:
        url = config.current().ratelimit_storage_uri
        super().__init__(FailoverStorage(url) if url else DatabaseStorage())


def _count(kind: str, subject: str) -> None:
    limiter = db.per_process(_Limiter)
    if not limiter.hit(_limit(), kind, subject):
        reset, _ = limiter.get_window_stats(_limit(), kind, subject)
        raise errors.TooManyAttempts(reason=kind, retry_after=max(1, math.ceil(reset - time.time())))


def _limit() -> RateLimitItemPerMinute:
    return RateLimitItemPerMinute(config.current().address_failures, namespace="tokenapp")


def _end_of_minute(moment: float) -> float:
    return (moment // WINDOW + 1) * WINDOW


@cache
def _counting(dialect: str) -> sa.Executable:
    """Return the statement that adds to a count, or restarts it in a new minute."""
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    amount, at_least = bindparam("amount", type_=sa.Integer), bindparam("at_least", type_=sa.Integer)
    now, ends_at = bindparam("now", type_=db.Instant()), bindparam("ends_at", type_=db.Instant())
    is_past, is_lower = AddressCount.expires_at <= now, AddressCount.count < at_least
    statement: sa.Executable = (
        insert(AddressCount)
        .values(key=bindparam("key"), count=at_least + amount, expires_at=ends_at)
        .on_conflict_do_update(
            index_elements=[AddressCount.key],
            set_={
                "count": sa.case((sa.or_(is_past, is_lower), at_least), else_=AddressCount.count) + amount,
                "expires_at": sa.case((is_past, ends_at), else_=AddressCount.expires_at),
            },
        )
        .returning(AddressCount.count)
    )
    return statement
