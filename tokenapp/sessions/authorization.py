"""Whether a session may change what protects its account."""

from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import db, errors
from tokenapp.models import Session, User

RECENT: Final = timedelta(minutes=5)
MULTIPLE: Final = "mfa"  # RFC 8176; in the `amr` of a session with two factors
_STEP_UP: Final = 'error="insufficient_user_authentication", acr_values="2", max_age="300"'  # RFC 9470, 3


def authorize(writer: orm.Session, user_id: str, sid: str, now: datetime, *, level: bool = True) -> User:
    """Return the user, locked, for a change by the session `sid`, in its transaction.

    An access token is accepted for up to a second after its session was revoked, and its level is that of the sign-in.
    So each change asks the database. The locks make a concurrent revocation or new factor wait, or its result visible.

    Args:
        level: whether the session must have the level of the account: two factors, if it has a second one.

    Raises:
        errors.AccessTokenInvalid: the session was revoked or has expired, or the user was disabled.
        errors.ReauthenticationRequired: the session has a lower level than the account.
    """
    user = writer.get(User, user_id, with_for_update={"key_share": True})
    # A statement of its own: one that waits for the lock on the user would see the session as it was before.
    return _check(user, writer.scalar(_live(user_id, sid, now).with_for_update(read=True)), sid, level=level)


def check_authorized(user_id: str, sid: str, now: datetime, *, level: bool = True, recent: bool = False) -> User:
    """Check early what `authorize` checks, without locks, and return the user.

    Args:
        level: as in `authorize`.
        recent: whether a user with a second factor must have signed in within five minutes.

    Raises:
        errors.AccessTokenInvalid, errors.ReauthenticationRequired
    """
    since = Session.authenticated_at >= now - RECENT
    with db.reading() as session:
        live = _live(user_id, sid, now)
        user = _check(session.get(User, user_id), session.scalar(live), sid, level=level)
        if recent and user.second_factor and session.scalar(live.where(since)) is None:
            raise errors.ReauthenticationRequired(challenge=_STEP_UP)
    return user


def _live(user_id: str, sid: str, now: datetime) -> sa.Select[str]:
    live = (Session.id == sid, Session.user_id == user_id, Session.revoked_at.is_(None), Session.expires_at > now)
    return sa.select(Session.amr).where(*live)


def _check(user: User | None, amr: str | None, sid: str, *, level: bool) -> User:
    if user is None or user.disabled_at is not None or amr is None:
        raise errors.AccessTokenInvalid(reason="session ended", sid=sid)
    if level and user.second_factor and MULTIPLE not in amr.split():
        raise errors.ReauthenticationRequired(challenge=_STEP_UP)
    return user
