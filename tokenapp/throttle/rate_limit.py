"""The rate limit of wrong passwords per client address: counts, in the database or in a Redis or Valkey server."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
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
_ASK_AGAIN_AFTER: Final = 1.0
log = logging.getLogger(__name__)


class Status(NamedTuple):
    """The limit of one client, what remains of it, and the seconds until it is reset."""

    limit: int
    remaining: int
    reset: int


def network_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
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
    reset, remaining = _limiter().get_window_stats(limit, "passwords", client)
    return Status(limit.amount, remaining, max(1, -int(-(reset - time.time()) // 1)))


def count_failure(client: str) -> None:
    """Count one wrong password of `client`."""
    _limiter().hit(_limit(), "passwords", client)


def count_sign_in(user_id: str) -> None:
    """Count one successful sign-in of a user.

    Raises:
        errors.TooManyAttempts: the user signed in too often in this minute.
    """
    if not _limiter().hit(_limit(), "sign-ins", user_id):
        reset, _ = _limiter().get_window_stats(_limit(), "sign-ins", user_id)
        raise errors.TooManyAttempts(reason="sign-ins", retry_after=max(1, -int(-(reset - time.time()) // 1)))


def _limit() -> RateLimitItemPerMinute:
    return RateLimitItemPerMinute(config.current().address_failures, namespace="tokenapp")


def _limiter() -> FixedWindowRateLimiter:
    """Return this process's limiter, whose connections are opened after the fork."""
    state = db.current().state
    if FixedWindowRateLimiter not in state:
        url = config.current().ratelimit_storage_uri
        storage = ServerStorage("tokenapp-server:", url=url) if url else DatabaseStorage("tokenapp-database:")
        state.setdefault(FixedWindowRateLimiter, FixedWindowRateLimiter(storage))
    limiter: FixedWindowRateLimiter = state[FixedWindowRateLimiter]
    return limiter


def prune(now: datetime) -> int:
    """Delete the counts whose minute is over, in batches; return how many."""
    over = sa.select(AddressCount.key).where(AddressCount.expires_at <= now).limit(PRUNE_BATCH).scalar_subquery()
    statement = sa.delete(AddressCount).where(AddressCount.key.in_(over)).returning(AddressCount.key)
    deleted = 0
    while batch := len(db.execute_now(statement)):
        deleted += batch
    return deleted


class DatabaseStorage(Storage):
    """Counts in our own database: a row for each key, used again once its minute is over.

    Windows are the minutes of the clock, so that stores which take over from one another mean the same ones.
    """

    STORAGE_SCHEME = ["tokenapp-database"]  # noqa: RUF012 -- the library's declaration

    @property
    def base_exceptions(self) -> type[Exception]:
        """What may go wrong; it is answered as any fault of the database."""
        return SQLAlchemyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add `amount` to the count of `key` and return the sum; `expiry` is always a minute."""
        del expiry
        return self._add(key, amount, at_least=0)

    def get(self, key: str) -> int:
        """Return the count of `key`."""
        live = (AddressCount.key == key, AddressCount.expires_at > datetime.now(UTC))
        rows = db.execute_now(sa.select(AddressCount.count).where(*live))
        return int(rows[0][0]) if rows else 0

    def get_expiry(self, key: str) -> float:
        """Return the end of this minute."""
        del key
        return (time.time() // WINDOW + 1) * WINDOW

    def check(self) -> bool:
        """Tell that counts can be had, or raise."""
        return self.get("") == 0

    def reset(self) -> int:
        """Forget all counts; return how many there were."""
        return len(db.execute_now(sa.delete(AddressCount).returning(AddressCount.key)))

    def clear(self, key: str) -> None:
        """Forget the count of `key`."""
        db.execute_now(sa.delete(AddressCount).where(AddressCount.key == key))

    def _add(self, key: str, amount: int, *, at_least: int) -> int:
        """Add `amount` to the count of `key`, or to `at_least` where that is more; return the sum."""
        now = time.time()
        times = {"now": now, "ends_at": (now // WINDOW + 1) * WINDOW}
        parameters = {"key": key, "amount": amount, "floor": at_least}
        parameters |= {name: datetime.fromtimestamp(moment, UTC) for name, moment in times.items()}
        return int(db.execute_now(_addition(db.db.engine.dialect.name), parameters)[0][0])


class ServerStorage(DatabaseStorage):
    """Counts in a Redis or Valkey server and, while that does not answer, in our database.

    Each process remembers the counts that it saw in this minute and believes no store that knows of less. So a limit
    goes on where it was when the server goes away, comes back, or has forgotten everything.
    """

    STORAGE_SCHEME = ["tokenapp-server"]  # noqa: RUF012 -- the library's declaration
    _ADDITION: Final = """
        local count = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), tonumber(ARGV[2])) + tonumber(ARGV[1])
        redis.call('SET', KEYS[1], count, 'EX', ARGV[3])
        return count
    """

    def __init__(self, uri: str, *, url: str) -> None:
        import redis  # noqa: PLC0415 -- it takes 4 MB, and most installations have no such server
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        super().__init__(uri)
        patience: dict[str, Any] = {"socket_timeout": SERVER_TIMEOUT, "socket_connect_timeout": SERVER_TIMEOUT}
        self._server: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **patience)
        self._addition = self._server.register_script(self._ADDITION)
        self._faults = (redis.RedisError, OSError, ValueError)
        self._ask_at = 0.0
        self._minute = 0
        self._seen: dict[str, int] = {}

    def get(self, key: str) -> int:
        """Return the count of `key`."""
        name = self._name(key)
        count = self._ask(lambda: int(self._server.get(name) or 0), lambda: DatabaseStorage.get(self, key))
        return self._remember(name, count)

    def reset(self) -> int:
        """Forget all counts; return how many there were in the database."""
        self._seen = {}
        self._ask(lambda: sum(self._server.delete(name) for name in self._server.scan_iter(match="tokenapp/*")), int)
        return super().reset()

    def clear(self, key: str) -> None:
        """Forget the count of `key`."""
        name = self._name(key)
        self._seen.pop(name, None)
        self._ask(lambda: int(self._server.delete(name)), int)
        super().clear(key)

    def _add(self, key: str, amount: int, *, at_least: int) -> int:
        name = self._name(key)
        floor = max(at_least, self._seen.get(name, 0))
        count = self._ask(
            lambda: int(self._addition([name], [amount, floor, 2 * WINDOW])),
            lambda: DatabaseStorage._add(self, key, amount, at_least=floor),  # noqa: SLF001 -- super() knows no lambda
        )
        return self._remember(name, count)

    def _name(self, key: str) -> str:
        """Name the count of `key` in this minute."""
        minute = int(time.time() // WINDOW)
        if minute != self._minute:
            self._minute, self._seen = minute, {}
        return f"{key}/{minute}"

    def _remember(self, name: str, count: int) -> int:
        count = max(count, self._seen.get(name, 0))
        if count:
            self._seen[name] = count
        return count

    def _ask(self, server: Callable[[], int], database: Callable[[], int]) -> int:
        """Ask the server or, for a second after it failed, only the database."""
        if time.monotonic() >= self._ask_at:
            try:
                count = server()
            except self._faults as fault:
                if not self._ask_at:
                    log.warning("the rate limit server does not answer, counts go into the database: %s", fault)
                self._ask_at = time.monotonic() + _ASK_AGAIN_AFTER
            else:
                if self._ask_at:
                    log.warning("the rate limit server answers again")
                self._ask_at = 0.0
                return count
        return database()


@cache
def _addition(dialect: str) -> sa.Executable:
    """Build the statement that counts, and begins anew where a minute is over, in one step."""
    insert: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
    amount, floor = bindparam("amount", type_=sa.Integer), bindparam("floor", type_=sa.Integer)
    now, ends_at = bindparam("now", type_=db.Instant()), bindparam("ends_at", type_=db.Instant())
    over = AddressCount.expires_at <= now
    statement: sa.Executable = (
        insert(AddressCount)
        .values(key=bindparam("key"), count=floor + amount, expires_at=ends_at)
        .on_conflict_do_update(
            index_elements=[AddressCount.key],
            set_={
                "count": sa.case((sa.or_(over, AddressCount.count < floor), floor), else_=AddressCount.count) + amount,
                "expires_at": sa.case((over, ends_at), else_=AddressCount.expires_at),
            },
        )
        .returning(AddressCount.count)
    )
    return statement
