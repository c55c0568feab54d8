"""The revocation list: the recently revoked ids that each process caches.

A request that finds the list older than the revocation delay renews it first. So an access token is rejected in every
process once the delay has passed since its session, its access key or its set of roles was revoked, without a
database read per request. While the database is unavailable the list cannot be renewed, and bearer requests are
answered 503.
"""

import logging
import math
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import sqlalchemy as sa

from tokenapp import config, db, errors
from tokenapp.sessions import revoked_ids

PAGE: Final = 10_000
_NEVER: Final = datetime(1970, 1, 2, tzinfo=UTC)
_CLOCK_SLACK: Final = timedelta(seconds=60)
_CLOCK_TOLERANCE: Final = timedelta(seconds=30)
_WARN_EVERY: Final = 60.0
_OVERLAP: Final = _CLOCK_SLACK + timedelta(seconds=15)


@dataclass(slots=True)
class _List:
    """One process's list, read at `as_of`.

    It is valid between `good_after` and `good_until`.

    `reading_since` is when a read began that is not finished, and `reached` how far it got. `read_to` and `reading_to`
    are the same moments by the database's clock.
    """

    as_of: datetime = _NEVER
    good_after: datetime = _NEVER
    good_until: datetime = _NEVER
    sids: dict[str, datetime] = field(default_factory=dict)
    tidied_at: datetime = _NEVER
    reading_since: datetime | None = None
    reached: tuple[datetime, str] = (_NEVER, "")
    renewing: threading.Lock = field(default_factory=threading.Lock)
    failed_at: float = -math.inf
    read_to: datetime = _NEVER
    reading_to: datetime = _NEVER
    warned_at: float = -math.inf


log = logging.getLogger(__name__)
_CLOCK: Final = sa.select(db.clock())


def state() -> tuple[int, datetime] | None:
    """Return the list's length and when it was read; None if it was not read yet."""
    cached = db.per_process(_List)
    return (len(cached.sids), cached.as_of) if cached.as_of != _NEVER else None


def is_revoked(sid: str, now: datetime, roles_id: str = "") -> bool:
    """Return whether the session or access key `sid` was revoked.

    A revocation takes effect here within one revocation delay.

    Args:
        roles_id: the set of roles in a token, which is revoked when a role is removed.

    Raises:
        sqlalchemy.exc.DBAPIError, db.DatabaseUnavailableError, errors.ServiceUnavailable: the list is too old and the
            database is unavailable.
    """
    state = db.current().state
    cached: _List = state[_List] if _List in state else db.per_process(_List)
    # A list from the future means that the clock was set back, so its age is unknown.
    if not cached.good_after < now < cached.good_until:
        waiting_since = monotonic()
        with cached.renewing:
            if not cached.good_after < now < cached.good_until:
                _renew(cached, now, waiting_since)
    return sid in cached.sids or roles_id in cached.sids


def _renew(cached: _List, now: datetime, waiting_since: float) -> None:
    """Renew the list, unless the renewal that the caller waited for failed.

    Otherwise the callers that wait for an unavailable database would fail one after the other.
    """
    if cached.failed_at >= waiting_since:
        raise errors.ServiceUnavailable(reason="the revocation list could not be read")
    try:
        if cached.reading_since is not None and cached.reading_since <= now:  # finish a long read first
            _read(cached, cached.reading_since)
        cached.reading_since = None
        _read(cached, now)
    except Exception:
        cached.failed_at = monotonic()
        raise


def _read(cached: _List, now: datetime) -> None:
    """Read page by page what was revoked; keep what was read if the time runs out.

    The times that decide what is read come from the database's clock, so that a host whose clock is wrong misses
    nothing.

    Only the first read covers all of the access lifetime. Later reads go back far enough for revocations that a host
    with a slow clock dated before the last read and committed after it.
    """
    settings = config.current()
    database_now = db.execute_now(_CLOCK)[0][0]
    _compare_clocks(cached, now, database_now)
    forget = database_now - timedelta(seconds=settings.access_lifetime) - _CLOCK_SLACK
    if cached.reading_since is None:
        # A read made before the clock was set back does not tell how far to go back.
        since = forget if database_now < cached.read_to else max(forget, cached.read_to - _OVERLAP)
        cached.reading_since, cached.reading_to, cached.reached = now, database_now, (since, "")
    while True:
        since, sid = cached.reached
        rows = revoked_ids.page(since, sid, PAGE)
        cached.sids.update({row.id: row.revoked_at for row in rows})
        if len(rows) < PAGE:
            break
        cached.reached = (rows[-1].revoked_at, rows[-1].id)
    if abs(now - cached.tidied_at) > _CLOCK_SLACK:
        cached.sids = {sid: at for sid, at in cached.sids.items() if at > forget}
        cached.tidied_at = now
    delay = timedelta(seconds=settings.revocation_delay)
    cached.reading_since, cached.as_of, cached.read_to = None, now, cached.reading_to
    cached.good_after, cached.good_until = now - delay, now + delay


def _compare_clocks(cached: _List, now: datetime, database_now: datetime) -> None:
    """Log once a minute that this host's clock and the database's differ."""
    difference = now - database_now
    if abs(difference) > _CLOCK_TOLERANCE and monotonic() - cached.warned_at > _WARN_EVERY:
        cached.warned_at = monotonic()
        log.critical("this host's clock differs from the database's by %d s", difference.total_seconds())
