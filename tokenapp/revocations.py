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

PAGE: Final = 10_000
_NEVER: Final = datetime(1970, 1, 2, tzinfo=UTC)
_CLOCK_SLACK: Final = timedelta(seconds=60)
_LATE: Final = _CLOCK_SLACK + timedelta(seconds=15)


@dataclass(slots=True)
class _Known:
    """One process's list, the moment at which the query for it began, and from when to when it is good.

    `began` is the moment at which a reading began that is not at its end yet, `reached` how far it has come.
    """

    as_of: datetime = _NEVER
    good_after: datetime = _NEVER
    good_until: datetime = _NEVER
    sids: dict[str, datetime] = field(default_factory=dict)
    tidied_at: datetime = _NEVER
    began: datetime | None = None
    reached: tuple[datetime, str] = (_NEVER, "")
    renewing: threading.Lock = field(default_factory=threading.Lock)
    failed_at: float = -math.inf


_SINCE: Final = sa.bindparam("since", type_=db.Instant())
_SID: Final = sa.bindparam("sid", type_=sa.String)
_RECENTLY_ENDED: Final = (
    sa.select(Session.id, Session.revoked_at)
    .where(Session.revoked_at >= _SINCE, sa.or_(Session.revoked_at > _SINCE, Session.id > _SID))
    .order_by(Session.revoked_at, Session.id)
    .limit(sa.bindparam("page"))
)


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
    """Add what ended lately, or fail as the renewal that the caller waited for: each in turn would wait for ever."""
    if known.failed_at >= waited_since:
        raise errors.ServiceUnavailable(reason="the revocations could not be read")
    try:
        if known.began is not None and known.began <= now:  # with a very long list, and not the time to end it
            _read(known, known.began)
        known.began = None
        _read(known, now)
    except Exception:
        known.failed_at = monotonic()
        raise


def _read(known: _Known, now: datetime) -> None:
    """Read, page after page, what had ended at `now`; what was read stays known if the time is over before the end.

    Only the first reading asks for all of it. The later ones look back far enough for ends that were dated before the
    last reading and committed after it, by a host whose clock is behind.
    """
    policy = config.current()
    forget = now - timedelta(seconds=policy.access_lifetime) - _CLOCK_SLACK
    if known.began is None:
        # What was read by a clock that has been put back since says nothing of how far back to look.
        since = forget if now < known.as_of else max(forget, known.as_of - _LATE)
        known.began, known.reached = now, (since, "")
    while True:
        since, sid = known.reached
        rows = db.execute_now(_RECENTLY_ENDED, {"since": since, "sid": sid, "page": PAGE})
        known.sids.update({row.id: row.revoked_at for row in rows})
        if len(rows) < PAGE:
            break
        known.reached = (rows[-1].revoked_at, rows[-1].id)
    if abs(now - known.tidied_at) > _CLOCK_SLACK:
        known.sids = {sid: at for sid, at in known.sids.items() if at > forget}
        known.tidied_at = now
    delay = timedelta(seconds=policy.revocation_delay)
    known.began, known.as_of, known.good_after, known.good_until = None, now, now - delay, now + delay
