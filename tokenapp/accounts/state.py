"""Disable, enable and unlock users."""

from datetime import datetime

import sqlalchemy as sa

from tokenapp import audit, db
from tokenapp.models import Session, User
from tokenapp.sessions import revoke_where
from tokenapp.throttle import lockout


@db.retried
def disable(user: User, now: datetime) -> int:
    """Disable `user` and revoke their sessions; return how many were live."""
    with db.writing() as session:
        disabling = sa.update(User).where(User.id == user.id, User.disabled_at.is_(None)).values(disabled_at=now)
        if session.connection().execute(disabling).rowcount:
            audit.record(session, "user_disabled", now, user_id=user.id)
        return len(revoke_where(session, Session.user_id == user.id, "user_disabled", now))


@db.retried
def enable(user: User, now: datetime) -> None:
    """Enable `user`. The sessions that `disable` revoked stay revoked."""
    with db.writing() as session:
        enabling = sa.update(User).where(User.id == user.id, User.disabled_at.is_not(None)).values(disabled_at=None)
        if session.connection().execute(enabling).rowcount:
            audit.record(session, "user_enabled", now, user_id=user.id)


@db.retried
def unlock(user: User, now: datetime) -> None:
    """Clear the failed attempts on the account, which ends its lockout."""
    with db.writing() as session:
        session.execute(lockout.clearing("password", user.username))
        audit.record(session, "user_unlocked", now, user_id=user.id)
