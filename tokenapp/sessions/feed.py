"""The feed of revoked sessions for services that verify access tokens themselves."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from tokenapp import config, db
from tokenapp.sessions import revoked_ids

FEED_PAGE: Final = 10_000
FEED_OVERLAP: Final = timedelta(seconds=75)
_CURSOR: Final = re.compile(r"([0-9]{1,16})~([A-Za-z0-9_-]{0,64})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def revoked_since(cursor: str | None) -> tuple[list[tuple[str, datetime]], str, bool]:
    """Return ids revoked since `cursor`, the next cursor, and if there are more.

    The cursor of the last page lies a little in the past, because a revocation can be committed later than its time
    says. So some ids are listed twice, and none is missed.

    Raises:
        ValueError: the cursor is malformed.
    """
    now = db.execute_now(sa.select(db.clock()))[0][0]  # every host's clock may be wrong, and this one is common to all
    since, sid = now - timedelta(seconds=config.current().access_lifetime) - FEED_OVERLAP, ""
    if cursor is not None:
        since, sid = _parse_cursor(cursor)
    rows = [(row.id, row.revoked_at) for row in revoked_ids.page(since, sid, FEED_PAGE + 1)]
    if len(rows) > FEED_PAGE:
        last = rows[FEED_PAGE - 1]
        return rows[:FEED_PAGE], _cursor(last[1], last[0]), True
    return rows, _cursor(now - FEED_OVERLAP, ""), False


def _cursor(moment: datetime, sid: str) -> str:
    return f"{(moment - _EPOCH) // timedelta(microseconds=1)}~{sid}"


def _parse_cursor(cursor: str) -> tuple[datetime, str]:
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        message = "invalid cursor"
        raise ValueError(message)
    return _EPOCH + timedelta(microseconds=int(parts[1])), parts[2]
