"""The life of a session: opened by a sign-in, refreshed, ended, listed, pruned. Rotation lives here."""

import logging
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from tokenapp import config, db, errors, events
from tokenapp.models import Grant, Outcome, RefreshClaims, Session, User

BATCH: Final = 1000
FEED_PAGE: Final = 10_000
FEED_OVERLAP: Final = timedelta(seconds=15)
_CURSOR: Final = re.compile(r"([0-9]{1,16})~([A-Za-z0-9_-]{0,64})")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
log = logging.getLogger(__name__)


def open_session(
    user: User,
    now: datetime,
    *,
    ip_address: str | None = None,
    user_agent: str | None = None,
    replaces: str | None = None,
) -> Grant:
    """Open a session for `user`, who has just given the password; end the session `replaces` in the same transaction.

    Raises:
        errors.InvalidCredentials: the user was disabled, or the password changed, since it was verified.
    """
    policy = config.current()
    ends_at = now + timedelta(seconds=policy.session_lifetime)
    session = Session(
        id=db.new_id(now),
        user_id=user.id,
        current_jti=_new_jti(),
        generation=0,
        created_at=now,
        authenticated_at=now,
        expires_at=min(now + timedelta(seconds=policy.refresh_lifetime), ends_at),
        ends_at=ends_at,
        ip_address=ip_address,
        user_agent=user_agent,
    )
    same = (User.id == user.id, User.disabled_at.is_(None), User.password_changed_at == user.password_changed_at)
    with db.writing() as writer:
        # The share lock makes a disabling or a new password wait for this sign-in, and end it then, or win outright.
        unchanged = writer.scalars(sa.select(User.id).where(*same).with_for_update(read=True)).one_or_none() is not None
        if unchanged:
            writer.add(session)
            events.record(writer, "sign_in", now, user_id=user.id, sid=session.id)
            if replaces is not None:
                events.end_sessions(writer, Session.id == replaces, "replaced", now)
        else:
            events.record(writer, "sign_in_failed", now, user_id=user.id, reason="user changed meanwhile")
    if not unchanged:
        raise errors.InvalidCredentials(reason="user changed meanwhile")
    return Grant(
        "opened",
        sid=session.id,
        user_id=user.id,
        username=user.username,
        jti=session.current_jti,
        generation=session.generation,
        issued_at=now,
        expires_at=session.expires_at,
        ends_at=ends_at,
        authenticated_at=now,
    )


def refresh(claims: RefreshClaims, now: datetime) -> Grant:
    """Rotate the session's refresh token; answer tabs, retries and lost replies with the token that is current.

    Reuse of an older token ends the session, and that is committed before the refusal is raised.

    Raises:
        errors.RefreshTokenExpired, errors.RefreshTokenRevoked
        errors.ServiceUnavailable: the row changed twice under our hands for other reasons.
    """
    window = timedelta(seconds=config.current().refresh_grace)
    for _ in range(2):
        rotated = _rotate(claims, now, window)
        if rotated is not None:
            return rotated
        row = _read(claims.sid)
        if row is None:
            raise errors.RefreshTokenRevoked(reason="unknown session", sid=claims.sid, outcome="revoked")
        if row.revoked_at is not None or row.disabled_at is not None:
            reason = row.revoked_reason or "user_disabled"
            raise errors.RefreshTokenRevoked(reason=f"session ended: {reason}", sid=claims.sid, outcome="revoked")
        if now >= row.expires_at:
            raise errors.RefreshTokenExpired(reason="session expired", sid=claims.sid)
        recent = bool(window) and row.rotated_at is not None and _is_recent(now - row.rotated_at, window)
        if recent and claims.jti == row.current_jti:
            return _grant("damped", row)
        if recent and claims.jti == row.previous_jti:
            return _grant("grace", row)
        if claims.jti != row.current_jti:
            break
    else:
        raise errors.ServiceUnavailable(reason="lost the race twice", sid=claims.sid)
    if claims.gen > row.generation:
        log.critical("refresh token is ahead of the database: was a backup restored? sid=%s", claims.sid)
        events.record_alone("refresh_ahead", now, sid=claims.sid, user_id=row.user_id)
        raise errors.RefreshTokenRevoked(reason="generation ahead", sid=claims.sid, outcome="ahead")
    end(claims.sid, "reuse", now)
    raise errors.RefreshTokenRevoked(reason="reuse", sid=claims.sid, outcome="reuse")


def end(sid: str, reason: str, now: datetime) -> bool:
    """End the session `sid`; tell whether it was live until now. When this returns, no refresh of it can succeed."""
    with db.writing() as writer:
        return bool(events.end_sessions(writer, Session.id == sid, reason, now))


def end_all_of(user_id: str, reason: str, now: datetime, *, keep: str | None = None) -> int:
    """End all sessions of one user but `keep`, in one transaction; return how many were live until now."""
    with db.writing() as writer:
        others = sa.and_(Session.user_id == user_id, Session.id != (keep or ""))
        return len(events.end_sessions(writer, others, reason, now))


def end_own(user_id: str, sid: str, now: datetime) -> bool:
    """End the session `sid` if it is live and belongs to that user; tell whether it was so."""
    with db.writing() as writer:
        own = sa.and_(Session.id == sid, Session.user_id == user_id, Session.expires_at > now)
        return bool(events.end_sessions(writer, own, "ended_by_user", now))


def reauthenticate(sid: str, now: datetime) -> Grant:
    """Note that the password was given again in the session `sid`, from which its access tokens are fresh anew.

    Raises:
        errors.AccessTokenInvalid: the session has ended.
    """
    statement = sa.update(Session).where(Session.id == sid, Session.revoked_at.is_(None), Session.expires_at > now)
    with db.writing() as writer:
        row = writer.connection().execute(statement.values(authenticated_at=now).returning(*_GRANTED)).one_or_none()
        if row is None:
            raise errors.AccessTokenInvalid(reason="session ended", sid=sid)
        events.record(writer, "reauthenticated", now, user_id=row.user_id, sid=sid)
    return _grant("reauthenticated", row)


def page_of(user_id: str, now: datetime, *, before: str | None, limit: int) -> Sequence[Session]:
    """Return up to `limit` + 1 live sessions of one user, newest first, those before the id `before`."""
    page = sa.select(Session).where(Session.user_id == user_id, Session.revoked_at.is_(None), Session.expires_at > now)
    if before is not None:
        page = page.where(Session.id < before)
    with db.reading() as session:
        return session.scalars(page.order_by(Session.id.desc()).limit(limit + 1)).all()


def end_everyones(now: datetime, reason: str) -> Iterator[int]:
    """End all sessions there are, in batches, each committed by itself; yield how many of each were live."""
    # One statement for all would run into the database's time limit, and keep every refresh waiting meanwhile.
    page = sa.select(Session.id).order_by(Session.id).limit(BATCH)
    last = ""
    while rows := db.execute_now(page.where(Session.id > last)):
        last = rows[-1].id
        with db.writing() as writer:
            yield len(events.end_sessions(writer, Session.id.in_([row.id for row in rows]), reason, now))


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
    return _read(sid) is not None


def count_prunable(now: datetime, keep: timedelta) -> int:
    """Count the sessions that `prune` would delete."""
    with db.reading() as session:
        return session.scalar(sa.select(sa.func.count()).where(_prunable(now, keep))) or 0


def prune(now: datetime, keep: timedelta) -> Iterator[int]:
    """Delete sessions that have been over for longer than `keep`, in batches; yield the size of each.

    Ended sessions are kept for at least the life of an access token, which they still keep from being used.
    """
    batch = sa.select(Session.id).where(_prunable(now, keep)).limit(BATCH).scalar_subquery()
    statement = sa.delete(Session).where(Session.id.in_(batch)).returning(Session.id)
    while deleted := len(db.execute_now(statement)):
        yield deleted


def honours(claims: Mapping[str, Any], now: datetime) -> bool:
    """Whether a token that says `claims`, of either kind, is worth anything, by the state of this moment."""
    row = _read(claims["sid"])
    if row is None or row.revoked_at is not None or row.disabled_at is not None or now >= row.ends_at:
        return False
    if claims["type"] == "access":
        return True
    window = timedelta(seconds=config.current().refresh_grace)
    recent = bool(window) and row.rotated_at is not None and _is_recent(now - row.rotated_at, window)
    answered = {row.current_jti, row.previous_jti} if recent else {row.current_jti}
    return bool(now < row.expires_at and claims["jti"] in answered)


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
    later = sa.or_(Session.revoked_at > since, sa.and_(Session.revoked_at == since, Session.id > sid))
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


def _prunable(now: datetime, keep: timedelta) -> sa.ColumnElement[bool]:
    moment = now - max(keep, timedelta(seconds=config.current().access_lifetime + 60))
    return sa.or_(Session.ends_at < moment, Session.revoked_at < moment)


def _is_recent(age: timedelta, window: timedelta) -> bool:
    """Whether a rotation of that age is in its window, which begins when an outage is over that hid the rotation."""
    return age <= window or db.was_away(age, window)


def _new_jti() -> str:
    return secrets.token_urlsafe(16)


_NOW: Final = bindparam("now", type_=db.Instant())
_OF_USER: Final = sa.select(User.id).where(User.id == Session.user_id, User.disabled_at.is_(None)).correlate(Session)
_USERNAME: Final = sa.select(User.username).where(User.id == Session.user_id).correlate(Session).scalar_subquery()
_GRANTED: Final = (
    Session.id,
    Session.user_id,
    _USERNAME.label("username"),
    Session.current_jti,
    Session.generation,
    Session.created_at,
    Session.rotated_at,
    Session.expires_at,
    Session.ends_at,
    Session.authenticated_at,
)


def _rotation(*, single_use: bool) -> sa.Executable:
    """Build the statement that decides every race: who finds the current jti in place, and long enough, moves it on."""
    idle_limit = bindparam("idle_limit", type_=db.Instant())
    rested = sa.or_(Session.rotated_at.is_(None), Session.rotated_at < bindparam("rested", type_=db.Instant()))
    return (
        sa.update(Session)
        .where(
            Session.id == bindparam("sid"),
            Session.current_jti == bindparam("jti"),
            sa.true() if single_use else rested,
            Session.revoked_at.is_(None),
            Session.expires_at > _NOW,
            sa.exists(_OF_USER),
        )
        .values(
            previous_jti=Session.current_jti,
            current_jti=bindparam("fresh_jti"),
            generation=Session.generation + 1,
            rotated_at=db.not_before(_NOW),
            expires_at=sa.case((Session.ends_at < idle_limit, Session.ends_at), else_=idle_limit),
        )
        .returning(*_GRANTED)
    )


_ROTATE: Final = {single_use: _rotation(single_use=single_use) for single_use in (False, True)}
_READ: Final = (
    sa.select(*_GRANTED, Session.previous_jti, Session.revoked_at, Session.revoked_reason, User.disabled_at)
    .join(User, User.id == Session.user_id)
    .where(Session.id == bindparam("sid"))
)


def _rotate(claims: RefreshClaims, now: datetime, window: timedelta) -> Grant | None:
    parameters = {
        "sid": claims.sid,
        "jti": claims.jti,
        "fresh_jti": _new_jti(),
        "now": now,
        "rested": now - window,
        "idle_limit": now + timedelta(seconds=config.current().refresh_lifetime),
    }
    rows = db.execute_now(_ROTATE[not window], parameters)
    return _grant("rotated", rows[0]) if rows else None


def _read(sid: str) -> sa.Row[Any] | None:
    rows = db.execute_now(_READ, {"sid": sid})
    return rows[0] if rows else None


def _grant(outcome: Outcome, row: sa.Row[Any]) -> Grant:
    return Grant(
        outcome,
        sid=row.id,
        user_id=row.user_id,
        username=row.username,
        jti=row.current_jti,
        generation=row.generation,
        issued_at=row.rotated_at or row.created_at,
        expires_at=row.expires_at,
        ends_at=row.ends_at,
        authenticated_at=row.authenticated_at,
    )
