"""Change the address of a user, and end their links, in a given transaction."""

from contextlib import suppress
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, errors
from tokenapp.accounts import login_names
from tokenapp.accounts.names import canonical, check_username
from tokenapp.factor_models import PendingSignIn
from tokenapp.models import OneTimeToken, User
from tokenapp.throttle import lockout


def note_rename(session: orm.Session, user: User, name: str, now: datetime) -> None:
    """Clear the failed attempts on the names before and after, and record the change.

    The attempts were those of other people, or of a person who has identified themselves.
    """
    for each in (user.username, name):
        session.execute(lockout.clearing("password", each))
    audit.record(session, "user_renamed", now, user_id=user.id)


def set_address(session: orm.Session, user: User, email: str, now: datetime) -> None:
    """Give `user` a proven address.

    A user name that is the former address follows. Otherwise that would still sign in, and its next owner could not
    register.

    Raises:
        sqlalchemy.exc.IntegrityError: another user has it.
    """
    if user.email is not None and user.username == canonical(user.email) != canonical(email):
        with suppress(errors.UsernameRejected):  # then the name stays
            name = check_username(email)
            note_rename(session, user, name, now)
            user.username = name
    user.email, user.email_verified_at = email, now
    login_names.store(session, [user])


def end_links(session: orm.Session, user_id: str, *, keep_undo: bool) -> None:
    """End the mailed links and the pending sign-ins of a user.

    Args:
        keep_undo: whether a previous address can still undo its replacement. Otherwise someone who has changed the
            address could end that by changing the password, too.
    """
    which = sa.delete(OneTimeToken).where(OneTimeToken.user_id == user_id)
    session.execute(which.where(OneTimeToken.purpose != "undo") if keep_undo else which)
    session.execute(sa.delete(PendingSignIn).where(PendingSignIn.user_id == user_id))


def end_links_since(session: orm.Session, user_id: str, address: str) -> None:
    """End the links of a user, apart from older links that undo a change.

    Someone who has replaced an address twice could otherwise use the second link to end that of the first address.

    Args:
        address: the canonical address whose link is used to undo a change.
    """
    undo = sa.and_(OneTimeToken.user_id == user_id, OneTimeToken.purpose == "undo")
    issued_at = sa.select(OneTimeToken.created_at).where(undo, OneTimeToken.address == address).scalar_subquery()
    older = session.scalars(sa.select(OneTimeToken.digest).where(undo, OneTimeToken.created_at < issued_at)).all()
    end_links(session, user_id, keep_undo=True)
    session.execute(sa.delete(OneTimeToken).where(undo, OneTimeToken.digest.not_in(older)))
