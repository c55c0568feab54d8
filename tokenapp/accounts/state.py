"""Disable, enable, unlock and rename users."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tokenapp import access_keys, audit, db, errors
from tokenapp.accounts import login_names
from tokenapp.accounts.changes import end_links, note_rename
from tokenapp.accounts.names import check_username
from tokenapp.models import Session, User
from tokenapp.sessions import revoke_where
from tokenapp.throttle import lockout


@db.retried
def disable(user: User, now: datetime) -> int:
    """Disable `user` and revoke their access keys and sessions; count the sessions."""
    with db.writing() as session:
        disabling = sa.update(User).where(User.id == user.id, User.disabled_at.is_(None)).values(disabled_at=now)
        if session.connection().execute(disabling).rowcount:
            audit.record(session, "user_disabled", now, user_id=user.id)
        end_links(session, user.id, keep_undo=False)
        access_keys.revoke_all_of(session, user.id, "user_disabled", now)
        return len(revoke_where(session, Session.user_id == user.id, "user_disabled", now))


@db.retried
def enable(user: User, now: datetime) -> None:
    """Enable `user`. The sessions that `disable` revoked stay revoked."""
    with db.writing() as session:
        disabled = (User.id == user.id, User.disabled_at.is_not(None), User.deleted_at.is_(None))
        enabling = sa.update(User).where(*disabled).values(disabled_at=None)
        if session.connection().execute(enabling).rowcount:
            audit.record(session, "user_enabled", now, user_id=user.id)


@db.retried
def unlock(user: User, now: datetime) -> None:
    """Clear the failed attempts on the account, which ends its lockout."""
    with db.writing() as session:
        session.execute(lockout.clearing("password", user.username))
        session.execute(lockout.clearing("code", user.id))
        audit.record(session, "user_unlocked", now, user_id=user.id)


@db.retried
def rename(user: User, username: str, now: datetime) -> str:
    """Give `user` another name, and return it in its canonical form.

    Sessions go on: the ``username`` claim follows with the next refresh. The failed attempts on both names are cleared.

    Raises:
        errors.UsernameRejected, errors.UsernameTaken, errors.UserNotFound: nothing was written.
    """
    name = check_username(username)
    with db.writing() as session:
        renaming = sa.update(User).where(User.id == user.id, User.deleted_at.is_(None)).values(username=name)
        try:
            renamed = session.connection().execute(renaming).rowcount
            login_names.store(session, session.scalars(sa.select(User).where(User.id == user.id)))
        except IntegrityError:
            raise errors.UsernameTaken from None
        if not renamed:
            raise errors.UserNotFound
        if name != user.username:
            note_rename(session, user, name, now)
    return name
