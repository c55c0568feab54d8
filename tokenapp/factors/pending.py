"""Sign-ins whose password was right, and that wait for the second factor."""

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import audit, config, db, errors, sessions
from tokenapp.factor_models import PendingSignIn
from tokenapp.factors import registry
from tokenapp.models import NewHash, User

LIFETIME: Final = timedelta(minutes=5)
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Waiting(NamedTuple):
    """A pending sign-in and its user; with `setup`, a second factor must be set up.

    `replacement` takes effect with the second factor, so that a temporary password alone changes nothing.
    """

    user: User
    digest: str
    setup: bool
    replacement: NewHash | None


def is_needed(user: User) -> bool:
    """Return whether the password alone does not sign `user` in."""
    return user.second_factor or config.current().second_factor == "required"


def begin(user: User, now: datetime, replacement: NewHash | None = None) -> errors.SecondFactorRequired:
    """Store a pending sign-in after the password; return the error to raise.

    Args:
        replacement: what replaces a temporary password, once the second factor is confirmed.

    Raises:
        errors.InvalidCredentials: the user was disabled, or their credentials changed, since they were verified.
    """
    token = secrets.token_urlsafe(32)
    if not _store(_digest(token), user, now, replacement):
        raise errors.InvalidCredentials(reason="credentials changed during sign-in")
    members: dict[str, object] = {"pending": token, "methods": registry.methods_of(user), "setup": []}
    if not user.second_factor:
        members["setup"] = registry.kinds_to_set_up()
    return errors.SecondFactorRequired(reason="password verified", members=members)


def find(token: str, now: datetime) -> Waiting:
    """Return the pending sign-in with this token.

    Raises:
        errors.SignInExpired: it is unknown, used, ended or expired.
    """
    if not _FORM.fullmatch(token):
        raise errors.SignInExpired
    live = (PendingSignIn.digest == _digest(token), PendingSignIn.expires_at > now, User.disabled_at.is_(None))
    query = sa.select(User, PendingSignIn).join(PendingSignIn, PendingSignIn.user_id == User.id).where(*live)
    with db.reading() as session:
        row = session.execute(query).one_or_none()
    if row is None:
        raise errors.SignInExpired
    user, own = row
    return Waiting(user, own.digest, own.setup, NewHash(own.new_hash, own.new_short) if own.new_hash else None)


def spend(writer: orm.Session, waiting: Waiting, now: datetime) -> None:
    """Use a pending sign-in up, in the transaction of what it is exchanged for.

    Raises:
        errors.SignInExpired: it was used or ended in the meantime.
    """
    live = (PendingSignIn.digest == waiting.digest, PendingSignIn.expires_at > now)
    if not writer.connection().execute(sa.delete(PendingSignIn).where(*live)).rowcount:
        raise errors.SignInExpired


def end(user_id: str) -> None:
    """End all pending sign-ins of a user, as when the account is locked."""
    db.execute_now(sa.delete(PendingSignIn).where(PendingSignIn.user_id == user_id))


def prune(now: datetime) -> int:
    """Delete expired pending sign-ins; return how many."""
    old = sa.delete(PendingSignIn).where(PendingSignIn.expires_at <= now).returning(PendingSignIn.digest)
    return len(db.execute_now(old))


@db.retried
def _store(digest: str, user: User, now: datetime, replacement: NewHash | None) -> bool:
    values = {"digest": digest, "user_id": user.id, "created_at": now, "expires_at": now + LIFETIME}
    if replacement is not None:
        values |= {"new_hash": replacement.text, "new_short": replacement.short}
    with db.writing() as writer:
        if writer.scalar(sa.select(User.id).where(*sessions.unchanged(user)).with_for_update(read=True)) is None:
            reason = "credentials changed during sign-in"
            audit.record(writer, "sign_in_failed", now, user_id=user.id, reason=reason)
            return False
        expired = (PendingSignIn.user_id == user.id, PendingSignIn.expires_at <= now)
        writer.execute(sa.delete(PendingSignIn).where(*expired))
        writer.execute(sa.insert(PendingSignIn).values(setup=not user.second_factor, **values))
    return True


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
