"""Passkeys of a user: added, listed, renamed, deleted (WebAuthn Level 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import config, db, errors, sessions
from tokenapp.factor_models import Passkey, RecoveryCode
from tokenapp.factors import challenges, registry
from tokenapp.factors.checks import Checked
from tokenapp.factors.enrolment import Author
from tokenapp.factors.levels import Proof
from tokenapp.models import User

MOST: Final = 20
MAX_NAME: Final = 64
_ENOUGH_WITHOUT_PASSWORD: Final = 2


class _New(NamedTuple):
    """A passkey that an authenticator has created, and the challenge it signed."""

    challenge: bytes
    values: dict[str, Any]


def list_passkeys(user_id: str) -> Sequence[Passkey]:
    """Return the passkeys of a user, oldest first."""
    with db.reading() as session:
        return session.scalars(sa.select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id)).all()


def use_of(owner: str) -> str:
    """Return what the challenges of new passkeys are for.

    Args:
        owner: the session that adds the passkey, or the digest of the pending sign-in that sets it up.
    """
    return f"registration {owner}"


def add(by: Author, credential: Mapping[str, Any], name: str, now: datetime) -> tuple[Passkey, list[str] | None]:
    """Add the passkey that an authenticator has created for the session.

    Returns it, and the recovery codes that come with the first factor.

    Raises:
        errors.PasskeyRejected: it is invalid, or known, or the user has too many.
        errors.AccessTokenInvalid, errors.ReauthenticationRequired
    """
    return _add(by, _verify(credential, by.sid, name, now), now)


def check_setup(user: User, credential: Mapping[str, Any], owner: str, name: str, now: datetime) -> Checked:
    """Check the passkey that an authenticator has created while `user` signs in.

    Raises:
        errors.PasskeyRejected: it is invalid.
    """
    new = _verify(credential, owner, name, now)

    def spend(writer: orm.Session) -> list[str] | None:
        return _insert(writer, writer.get_one(User, user.id, with_for_update=True), new, now)

    return Checked(Proof("passkey", user_verified=True, device_bound=not new.values["backup_eligible"]), spend)


def _verify(credential: Mapping[str, Any], owner: str, name: str, now: datetime) -> _New:
    from tokenapp.factors import webauthn  # noqa: PLC0415 -- fido2 is loaded when a passkey is used

    try:
        challenge = webauthn.challenge_of(credential)
        if not challenges.is_valid(challenge, use_of(owner), now):
            raise errors.PasskeyRejected(reason="challenge", detail="This took too long. Please try again.")
        created = webauthn.verify_registration(credential)
    except webauthn.SignatureError as error:
        raise errors.PasskeyRejected(reason=str(error)) from None
    about = {"id": db.new_id(now), "name": name, "created_at": now, "last_used_at": None}
    return _New(challenge, about | asdict(created))


@db.retried
def _add(by: Author, new: _New, now: datetime) -> tuple[Passkey, list[str] | None]:
    with db.writing() as writer:
        codes = _insert(writer, sessions.authorize(writer, *by, now), new, now)
        return Passkey(user_id=by.user_id, **new.values), codes


def _insert(writer: orm.Session, user: User, new: _New, now: datetime) -> list[str] | None:
    """Store a new passkey of `user`, locked; return what comes with the first factor.

    Raises:
        errors.PasskeyRejected: it is known, its challenge was used before, or the user has too many.
    """
    if not challenges.spend(writer, new.challenge, now):
        raise errors.PasskeyRejected(reason="used challenge")
    if _count(writer, user.id) >= MOST:
        raise errors.PasskeyRejected(detail=f"An account has at most {MOST} passkeys.")
    insert: Any = postgresql.insert if db.current().engine.dialect.name == "postgresql" else sqlite.insert
    inserting = insert(Passkey).values(user_id=user.id, **new.values).on_conflict_do_nothing().returning(Passkey.id)
    if writer.connection().execute(inserting).first() is None:
        raise errors.PasskeyRejected(detail="This passkey was added before.")
    return registry.added(writer, user, "passkey", now)


def rename(user_id: str, passkey_id: str, name: str) -> Passkey:
    """Rename a passkey of a user.

    Raises:
        errors.PasskeyNotFound
    """
    own = (Passkey.id == passkey_id, Passkey.user_id == user_id)
    renaming = sa.update(Passkey).where(*own).values(name=name).returning(*Passkey.__table__.columns)
    rows = db.execute_now(renaming)
    if not rows:
        raise errors.PasskeyNotFound
    return Passkey(**rows[0]._mapping)  # noqa: SLF001 -- documented


@db.retried
def delete(by: Author, passkey_id: str, now: datetime) -> None:
    """Delete a passkey of a user, who keeps a way to sign in.

    Raises:
        errors.PasskeyNotFound, errors.LastWayToSignIn
        errors.AccessTokenInvalid, errors.ReauthenticationRequired
    """
    with db.writing() as writer:
        user = sessions.authorize(writer, *by, now)
        deleting = sa.delete(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == by.user_id)
        row = writer.connection().execute(deleting.returning(Passkey.rp_id)).first()
        if row is None:
            raise errors.PasskeyNotFound
        usable = row[0] == config.current().rp_id
        if usable and not user.password_hash:
            _require_spare(writer, user)
        registry.removed(writer, user, "passkey", now, usable=usable)


def domains() -> Mapping[str, int]:
    """Return how many passkeys there are for each domain."""
    query = sa.select(Passkey.rp_id, sa.func.count()).group_by(Passkey.rp_id).order_by(Passkey.rp_id)
    rows: Sequence[Any] = db.execute_now(query)
    return {row[0]: row[1] for row in rows}


def _require_spare(writer: orm.Session, user: User) -> None:
    """Check that a user without a password can lose one passkey."""
    left = _count(writer, user.id, Passkey.rp_id == config.current().rp_id)
    codes = writer.scalar(sa.select(sa.func.count()).where(RecoveryCode.user_id == user.id)) or 0
    if left < _ENOUGH_WITHOUT_PASSWORD and not (left and codes):
        raise errors.LastWayToSignIn(detail="Without a password you need two passkeys. Add another one first.")


def _count(writer: orm.Session, user_id: str, *which: sa.ColumnElement[bool]) -> int:
    return writer.scalar(sa.select(sa.func.count()).where(Passkey.user_id == user_id, *which)) or 0
