"""List and look up sessions, for their owners and for operators."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypedDict, Unpack

import sqlalchemy as sa

from tokenapp import db
from tokenapp.models import Session, User


def page_of(user_id: str, now: datetime, *, before: str | None, limit: int) -> Sequence[Session]:
    """Return up to `limit` + 1 live sessions of a user, newest first."""
    page = sa.select(Session).where(Session.user_id == user_id, Session.revoked_at.is_(None), Session.expires_at > now)
    if before is not None:
        page = page.where(Session.id < before)
    with db.reading() as session:
        return session.scalars(page.order_by(Session.id.desc()).limit(limit + 1)).all()


class Filter(TypedDict, total=False):
    """Which sessions are listed: by default the live ones of all users.

    `search` is a part of the user name, of an address or of a user agent.
    """

    user_id: str | None
    live: bool
    search: str


def list_sessions(
    now: datetime, *, after: str = "", limit: int = 1000, newest: bool = False, **chosen: Unpack[Filter]
) -> Sequence[tuple[Session, str | None]]:
    """Return one page of sessions with their user names, oldest first.

    A deleted user has no name.

    Args:
        newest: return the last page instead of the first, newest first.
        chosen: what the sessions must have.
    """
    page = sa.select(Session, sa.case((User.deleted_at.is_(None), User.username))).join(
        User, User.id == Session.user_id
    )
    page = page.where(Session.id > after).order_by(Session.id.desc() if newest else Session.id).limit(limit)
    if (user_id := chosen.get("user_id")) is not None:
        page = page.where(Session.user_id == user_id)
    if chosen.get("live", True):
        page = page.where(Session.revoked_at.is_(None), Session.expires_at > now, User.disabled_at.is_(None))
    if search := chosen.get("search"):
        searched = (
            User.username,
            Session.ip_address,
            Session.last_ip_address,
            Session.user_agent,
            Session.last_user_agent,
        )
        page = page.where(sa.or_(*(column.icontains(search, autoescape=True) for column in searched)))
    with db.reading() as session:
        return [(row[0], row[1]) for row in session.execute(page)]


def get(sid: str) -> Session | None:
    """Return the session `sid`, live or not."""
    with db.reading() as session:
        return session.get(Session, sid)


def exists(sid: str) -> bool:
    """Return whether there is a session `sid`, live or not."""
    return bool(db.execute_now(sa.select(Session.id).where(Session.id == sid)))


def latest_of(user_id: str, *, limit: int) -> Sequence[Session]:
    """Return the latest sessions of a user, live or not, newest first."""
    page = sa.select(Session).where(Session.user_id == user_id).order_by(Session.id.desc()).limit(limit)
    with db.reading() as session:
        return session.scalars(page).all()
