"""Adding, listing and removing the second factors of a user."""

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from tokenapp import audit, db, errors, sessions
from tokenapp.factor_models import Passkey, PendingSignIn, RecoveryCode, Totp
from tokenapp.factors import recovery_codes, registry
from tokenapp.factors.checks import Enrolment
from tokenapp.models import Session, User


class Author(NamedTuple):
    """The session that changes the factors of its user."""

    user_id: str
    sid: str


class Factor(NamedTuple):
    """A confirmed second factor."""

    id: str
    kind: registry.Kind
    created_at: datetime
    last_used_at: datetime | None


def factors_of(user_id: str) -> list[Factor]:
    """Return the confirmed authenticator apps of a user, oldest first."""
    query = sa.select(Totp.id, Totp.created_at, Totp.last_used_at).where(
        Totp.user_id == user_id, Totp.confirmed_at.is_not(None)
    )
    return [Factor(row.id, "totp", row.created_at, row.last_used_at) for row in db.execute_now(query.order_by(Totp.id))]


def codes_left(user_id: str) -> int:
    """Return how many recovery codes a user has left."""
    query = sa.select(sa.func.count()).select_from(RecoveryCode).where(RecoveryCode.user_id == user_id)
    return int(db.execute_now(query)[0][0])


@db.retried
def start_totp(author: Author, now: datetime) -> Enrolment:
    """Return a new secret for an authenticator app; it counts once it is confirmed.

    Raises:
        errors.AccessTokenInvalid, errors.ReauthenticationRequired, errors.InvalidRequest
    """
    from tokenapp.factors import totp  # noqa: PLC0415 -- loaded only when it is used

    with db.writing() as writer:
        return totp.create(writer, sessions.authorize(writer, *author, now), now)


@db.retried
def confirm_totp(author: Author, totp_id: str, code: str, now: datetime) -> list[str] | None:
    """Confirm an authenticator app with a code of it, which is used up.

    Returns the recovery codes that come with the first factor.

    Raises:
        errors.AccessTokenInvalid, errors.ReauthenticationRequired, errors.FactorNotFound, errors.InvalidCode
    """
    from tokenapp.factors import totp  # noqa: PLC0415 -- as above

    with db.writing() as writer:
        return totp.confirm(writer, sessions.authorize(writer, *author, now), code, now, totp_id)


@db.retried
def remove_totp(author: Author, totp_id: str, now: datetime) -> None:
    """Remove an authenticator app.

    Raises:
        errors.AccessTokenInvalid, errors.ReauthenticationRequired, errors.FactorNotFound
        errors.LastWayToSignIn: nothing was removed.
    """
    with db.writing() as writer:
        user = sessions.authorize(writer, *author, now)
        own = sa.delete(Totp).where(Totp.id == totp_id, Totp.user_id == user.id).returning(Totp.confirmed_at)
        row = writer.connection().execute(own).first()
        if row is None:
            raise errors.FactorNotFound
        if row[0] is not None:
            registry.removed(writer, user, "totp", now)


@db.retried
def new_recovery_codes(author: Author, now: datetime) -> list[str]:
    """Replace the recovery codes of a user, and return the new ones.

    Raises:
        errors.AccessTokenInvalid, errors.ReauthenticationRequired
        errors.FactorNotFound: the user has no second factor, for which recovery codes are.
    """
    with db.writing() as writer:
        user = sessions.authorize(writer, *author, now)
        if not user.second_factor:
            raise errors.FactorNotFound(detail="Set up a second factor first.")
        return recovery_codes.replace(writer, user.id, now, "replaced")


@db.retried
def reset(user: User, now: datetime) -> int:
    """Remove all second factors of `user`, and revoke their sessions.

    Returns how many were live. A password that is too short to protect the account alone must be replaced at the next
    sign-in.
    """
    with db.writing() as writer:
        locked = writer.get_one(User, user.id, with_for_update=True)
        for kind in (Totp, Passkey, RecoveryCode, PendingSignIn):
            writer.execute(sa.delete(kind).where(kind.user_id == user.id))
        locked.second_factor = False
        locked.password_temporary = locked.password_temporary or locked.password_short
        audit.record(writer, "factors_reset", now, user_id=user.id)
        return len(sessions.revoke_where(writer, Session.user_id == user.id, "factors_reset", now))
