"""Sessions looked at: by their owners, by operators, by other services; and those long over, cleared away."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final

import sqlalchemy as sa

from tokenapp import config, db
from tokenapp.models import Session, User
from tokenapp.sessions.rotation import is_recent, read

BATCH: Final = 1000
PRUNE_BATCH: Final = 8
FEED_PAGE: Final = 10_000
FEED_OVERLAP: Final = timedelta(seconds=75)
_CURSOR: Final = re.compile(r"([0-9]{1,16})~([A-Za-z0-9_-]{0,64})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def page_of(user_id: str, now: datetime, *, before: str | None, limit: int) -> Sequence[Session]:
    """Return up to `limit` + 1 live sessions of one user, newest first, those before the id `before`."""
    page = sa.select(Session).where(Session.user_id == user_id, Session.revoked_at.is_(None), Session.expires_at > now)
    if before is not None:
        page = page.where(Session.id < before)
    with db.reading() as session:
        return session.scalars(page.order_by(Session.id.desc()).limit(limit + 1)).all()


def list_sessions(
    now: datetime, *, user_id: str | None = None, live: bool = True, after: str = "", limit: int = 1000
) -> Sequence[tuple[Session, str]]:
    """Return one page of sessions with their users' names, oldest first, those after the id `after`."""
    page = sa.select(Session, User.username).join(User, User.id == Session.user_id)
    page = page.where(Session.id > after).order_by(Session.id).limit(limit)
    if user_id is not None:
        page = page.where(Session.user_id == user_id)
    if live:
        page = page.where(Session.revoked_at.is_(None), Session.expires_at > now, User.disabled_at.is_(None))
    with db.reading() as session:
        return [(row[0], row[1]) for row in session.execute(page)]


def get(sid: str) -> Session | None:
    """Return the session `sid`, live or not."""
    with db.reading() as session:
        return session.get(Session, sid)


def latest_of(user_id: str, *, limit: int) -> Sequence[Session]:
    """Return the latest sessions of one user, live or not, newest first."""
    page = sa.select(Session).where(Session.user_id == user_id).order_by(Session.id.desc()).limit(limit)
    with db.reading() as session:
        return session.scalars(page).all()


def exists(sid: str) -> bool:
    """Whether there is a session `sid`, live or not."""
    return read(sid) is not None


def count_prunable(now: datetime, keep: timedelta) -> int:
    """Count the sessions that `prune` would delete."""
    return sum(len(page) for page in _prunable(now, keep))


def prune(now: datetime, keep: timedelta) -> Iterator[int]:
    """Delete sessions that have been over for longer than `keep`, in batches; yield the size of each.

    Ended sessions are kept for at least the life of an access token, which they still keep from being used. Refreshes
    go on meanwhile: the batches are small, and after each this rests for as long as it took.
    """
    for page in _prunable(now, keep):
        began = monotonic()
        deleted = db.execute_now(sa.delete(Session).where(Session.id.in_(page)).returning(Session.id))
        db.make_way(began)
        yield len(deleted)


def honours(claims: Mapping[str, Any], now: datetime) -> bool:
    """Whether a token that says `claims`, of either kind, is worth anything, by the state of this moment."""
    row = read(claims["sid"])
    if row is None or row.revoked_at is not None or row.disabled_at is not None or now >= row.expires_at:
        return False
    if claims["type"] == "access":
        return True
    window = timedelta(seconds=config.current().refresh_grace)
    recent = bool(window) and row.rotated_at is not None and is_recent(now - row.rotated_at, window)
    answered = {row.current_jti, row.previous_jti} if recent else {row.current_jti}
    return claims["jti"] in answered


def ended_since(cursor: str | None, now: datetime) -> tuple[list[tuple[str, datetime]], str, bool]:
    """Return sessions that ended since `cursor`, oldest first, with the next cursor, and whether more wait behind it.

    Once all are told, the next cursor lies a little in the past: a session whose end was dated before, and committed
    after, this look is told the next time. So some are told twice, and none is left out.

    Raises:
        ValueError: the cursor is not one of ours.
    """
    since, sid = now - timedelta(seconds=config.current().access_lifetime) - FEED_OVERLAP, ""
    if cursor is not None:
        since, sid = _read_cursor(cursor)
    later = sa.and_(Session.revoked_at >= since, sa.or_(Session.revoked_at > since, Session.id > sid))
    page = sa.select(Session.id, Session.revoked_at).where(later).order_by(Session.revoked_at, Session.id)
    rows = [(row.id, row.revoked_at) for row in db.execute_now(page.limit(FEED_PAGE + 1))]
    if len(rows) > FEED_PAGE:
        last = rows[FEED_PAGE - 1]
        return rows[:FEED_PAGE], _cursor(last[1], last[0]), True
    return rows, _cursor(now - FEED_OVERLAP, ""), False


def _cursor(moment: datetime, sid: str) -> str:
    return f"{(moment - _EPOCH) // timedelta(microseconds=1)}~{sid}"


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        message = "the cursor is not one of ours"
        raise ValueError(message)
    return _EPOCH + timedelta(microseconds=int(parts[1])), parts[2]


def _prunable(now: datetime, keep: timedelta) -> Iterator[Sequence[str]]:
    """Walk through the ids of sessions that have been over for long, along one index after the other.

    Asked for both at once, PostgreSQL reads the whole table; asked each time from the start, all that was deleted.
    """
    moment = now - max(keep, timedelta(seconds=config.current().access_lifetime + 60))
    not_met = sa.or_(Session.revoked_at.is_(None), Session.revoked_at >= moment)
    for over, which in ((Session.revoked_at, sa.true()), (Session.ends_at, not_met)):
        last, sid = _EPOCH, ""
        page = sa.select(Session.id, over.label("over")).where(over < moment, which).order_by(over, Session.id)
        while rows := db.execute_now(
            page.where(over >= last, sa.or_(over > last, Session.id > sid)).limit(PRUNE_BATCH)
        ):
            last, sid = rows[-1].over, rows[-1].id
            yield [row.id for row in rows]
