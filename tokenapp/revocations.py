"""What each worker knows without asking: the sessions that ended lately, whose access tokens may still be around.

The list is read anew at most once per revocation delay, by whichever request finds it too old, and the request waits
for it. So a token of a session that ended longer ago than the delay is refused in every worker, at no read per request.
While the database is away the list cannot be renewed, and bearer requests are answered 503 once it is older than that.
"""

import math
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

import sqlalchemy as sa

from tokenapp import config, db, errors
from tokenapp.models import Session

_NEVER: Final = datetime(1970, 1, 2, tzinfo=UTC)
_CLOCK_SLACK: Final = timedelta(seconds=60)
_LATE: Final = _CLOCK_SLACK + timedelta(seconds=15)


@dataclass(slots=True)
class _Known:
    """One process's list, the moment at which the query for it began, and from when to when it is good."""

    as_of: datetime = _NEVER
    good_after: datetime = _NEVER
    good_until: datetime = _NEVER
    sids: dict[str, datetime] = field(default_factory=dict)
    renewing: threading.Lock = field(default_factory=threading.Lock)
    failed_at: float = -math.inf


_SINCE: Final = sa.bindparam("since", type_=db.Instant())
_RECENTLY_ENDED: Final = sa.select(Session.id, Session.revoked_at).where(Session.revoked_at > _SINCE)


def known() -> tuple[int, datetime] | None:
    """Return how many sids this process's list has and as of when; None as long as it was not read."""
    known = db.kept(_Known)
    return (len(known.sids), known.as_of) if known.as_of != _NEVER else None


def has_ended(sid: str, now: datetime) -> bool:
    """Whether the session `sid` ended, as of one revocation delay ago at the latest.

    Raises:
        sqlalchemy.exc.DBAPIError, db.DatabaseAwayError, errors.ServiceUnavailable: the list is too old and the
            database is away.
    """
    known = db.kept(_Known)
    # A list from the future means that the clock was set back, and its age cannot be told.
    if not known.good_after < now < known.good_until:
        waited_since = monotonic()
        with known.renewing:
            if not known.good_after < now < known.good_until:
                _renew(known, now, waited_since)
    return sid in known.sids


def _renew(known: _Known, now: datetime, waited_since: float) -> None:
    """Add what ended lately, or fail as the renewal did that the caller waited for: each in turn would wait for ever.

    Only the first reading asks for all of it. The later ones look back far enough for ends that were dated before the
    last reading and committed after it, by a host whose clock is behind.
    """
    if known.failed_at >= waited_since:
        raise errors.ServiceUnavailable(reason="the revocations could not be read")
    policy = config.current()
    forget = now - timedelta(seconds=policy.access_lifetime) - _CLOCK_SLACK
    try:
        rows = db.execute_now(_RECENTLY_ENDED, {"since": max(forget, min(known.as_of, now) - _LATE)})
    except Exception:
        known.failed_at = monotonic()
        raise
    # A new dict, for those who look into the old one at this moment.
    known.sids = {sid: at for sid, at in known.sids.items() if at > forget} | {row.id: row.revoked_at for row in rows}
    delay = timedelta(seconds=policy.revocation_delay)
    known.as_of, known.good_after, known.good_until = now, now - delay, now + delay
