"""Passkeys of a user: added, listed, renamed, deleted (WebAuthn Level 3)."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql, sqlite

from tokenapp import db, errors
from tokenapp.factor_models import Passkey, RecoveryCode
from tokenapp.factors import challenges, registry
from tokenapp.factors.enrolment import Author
from tokenapp.models import User

MOST: Final = 20
MAX_NAME: Final = 64
_TRANSPORT: Final = re.compile(r"[a-z-]{1,20}")
_MOST_TRANSPORTS: Final = 6
_ENOUGH_WITHOUT_PASSWORD: Final = 2


def list_passkeys(user_id: str) -> Sequence[Passkey]:
    """Return the passkeys of a user, oldest first."""
    with db.reading() as session:
        return session.scalars(sa.select(Passkey).where(Passkey.user_id == user_id).order_by(Passkey.id)).all()


def use_of(sid: str) -> str:
    """Return what the challenges of a session's new passkeys are for."""
    return f"registration {sid}"


def add(by: Author, credential: Mapping[str, Any], name: str, now: datetime) -> tuple[Passkey, list[str] | None]:
    """Add the passkey that an authenticator has created for the session.

    Returns it, and the recovery codes that come with the first factor.

    Raises:
        errors.PasskeyRejected: it is invalid, or known, or the user has too many.
        errors.AccessTokenInvalid, errors.ReauthenticationRequired
    """
    from tokenapp.factors import webauthn  # noqa: PLC0415 -- fido2 is loaded when a passkey is used

    try:
        challenge = webauthn.challenge_of(credential)
        if not challenges.is_valid(challenge, use_of(by.sid), now):
            raise errors.PasskeyRejected(reason="challenge", detail="This took too long. Please try again.")
        created = webauthn.verify_registration(credential)
    except webauthn.SignatureError as error:
        raise errors.PasskeyRejected(reason=str(error)) from None
    transports = [each for each in credential["response"].get("transports") or () if _TRANSPORT.fullmatch(each)]
    values = {
        "id": db.new_id(now),
        "user_id": by.user_id,
        "credential_id": created.credential_id,
        "public_key": created.public_key,
        "rp_id": created.rp_id,
        "name": name,
        "transports": " ".join(transports[:_MOST_TRANSPORTS]),
        "aaguid": created.aaguid,
        "sign_count": created.sign_count,
        "backup_eligible": created.backup_eligible,
        "backed_up": created.backed_up,
        "created_at": now,
        "last_used_at": None,
    }
    return _add(by, challenge, values, now)


@db.retried
def _add(by: Author, challenge: bytes, values: dict[str, Any], now: datetime) -> tuple[Passkey, list[str] | None]:
    insert: Any = postgresql.insert if db.current().engine.dialect.name == "postgresql" else sqlite.insert
    with db.writing() as writer:
        user = registry.authorize(writer, *by, now)
        if not challenges.spend(writer, challenge, now):
            raise errors.PasskeyRejected(reason="used challenge")
        if _count(writer, by.user_id) >= MOST:
            raise errors.PasskeyRejected(detail=f"An account has at most {MOST} passkeys.")
        inserting = insert(Passkey).values(values).on_conflict_do_nothing().returning(Passkey.id)
        if writer.connection().execute(inserting).first() is None:
            raise errors.PasskeyRejected(detail="This passkey was added before.")
        return Passkey(**values), registry.added(writer, user, "passkey", now)


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
        user = registry.authorize(writer, *by, now)
        deleting = sa.delete(Passkey).where(Passkey.id == passkey_id, Passkey.user_id == by.user_id)
        if not writer.connection().execute(deleting).rowcount:
            raise errors.PasskeyNotFound
        if not user.password_hash:
            _require_spare(writer, user)
        registry.removed(writer, user, "passkey", now)


def domains() -> Mapping[str, int]:
    """Return how many passkeys there are for each domain."""
    query = sa.select(Passkey.rp_id, sa.func.count()).group_by(Passkey.rp_id).order_by(Passkey.rp_id)
    rows: Sequence[Any] = db.execute_now(query)
    return {row[0]: row[1] for row in rows}


def _require_spare(writer: orm.Session, user: User) -> None:
    """Check that a user without a password can lose one passkey."""
    left = _count(writer, user.id)
    codes = writer.scalar(sa.select(sa.func.count()).where(RecoveryCode.user_id == user.id)) or 0
    if left < _ENOUGH_WITHOUT_PASSWORD and not (left and codes):
        raise errors.LastWayToSignIn(detail="Without a password you need two passkeys. Add another one first.")


def _count(writer: orm.Session, user_id: str) -> int:
    return writer.scalar(sa.select(sa.func.count()).where(Passkey.user_id == user_id)) or 0
