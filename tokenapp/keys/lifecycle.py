"""The lifecycle of a stored signing key: pending, active, retiring, retired."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from tokenapp import audit, config, db, errors, sessions
from tokenapp.keys import storage
from tokenapp.keys.affected_sessions import count_sessions, sessions_signed_by
from tokenapp.keys.material import ALGORITHMS, Alg, Use, generate, kid_of, open_key
from tokenapp.models import SigningKey

State = Literal["pending", "active", "retiring", "retired"]
FIRST_ALGORITHM: Final[dict[Use, Alg]] = {"access": "ES256", "refresh": "HS256"}
_CLOCK_SLACK: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A signing key as operators see it."""

    kid: str
    use: str
    algorithm: str
    state: State
    created_at: datetime
    activates_at: datetime
    verifies_until: datetime | None


def list_keys(now: datetime) -> Sequence[KeyInfo]:
    """Return all stored keys, oldest first, with their states."""
    with db.reading() as session:
        rows = session.scalars(sa.select(SigningKey).order_by(SigningKey.use, SigningKey.serial)).all()
    active = {row.use: row.kid for row in rows if row.retired_at is None and row.activates_at <= now}
    return [
        KeyInfo(
            row.kid,
            row.use,
            row.algorithm,
            _state(row, now, active=active.get(row.use) == row.kid),
            row.created_at,
            row.activates_at,
            row.verifies_until,
        )
        for row in rows
    ]


@db.retried
def create_first(use: Use, now: datetime) -> None:
    """Create and store the first key.

    If several processes try at once, the database lets one succeed.
    """
    try:
        with db.writing() as writer:
            serial = _next_serial(writer, use)  # first, so that a concurrent creation is either seen or conflicts
            if not any(row.verifies_until is None or row.verifies_until > now for row in _not_retired(writer, use)):
                material = generate(FIRST_ALGORITHM[use])
                _add(writer, use, serial, (FIRST_ALGORITHM[use], material), now, activates_at=now)
    except IntegrityError:
        return  # another process created the key


def rotate(use: Use, now: datetime, *, alg: Alg | None = None, material: bytes | None = None) -> KeyInfo:
    """Publish a new key, which becomes active later.

    By then, cached copies of the JWK set have expired. The key that was active before verifies until the last token
    that it signed has expired.

    Args:
        material: the private key as PKCS #8; generated if not given.

    Raises:
        errors.KeyPending: there is a pending key already.
        errors.KeyRejected: the key is too weak, was used before, or has an unsupported type.
    """
    alg = alg or FIRST_ALGORITHM[use]
    if use == "refresh" and alg != "HS256":
        raise errors.KeyRejected(detail="Refresh tokens are always signed with HS256.")
    settings = config.current()
    lead = timedelta(seconds=2 * settings.revocation_delay + (settings.jwks_lifetime if alg != "HS256" else 1))
    try:
        with db.writing() as writer:
            serial = _next_serial(writer, use)
            existing = _not_retired(writer, use)
            if any(row.activates_at > now for row in existing):
                raise errors.KeyPending
            if material is not None and writer.get(SigningKey, kid_of(alg, material)) is not None:
                raise errors.KeyRejected(detail="The key is or was in use. A key can be used only once.")
            activates_at = now + lead if existing else now
            row = _add(writer, use, serial, (alg, material or generate(alg)), now, activates_at=activates_at)
            _supersede(writer, row, settings)
    except IntegrityError:
        raise errors.KeyPending from None
    return next(info for info in list_keys(now) if info.kid == row.kid)


def retire(kid: str, now: datetime, *, at_once: bool = False) -> int:
    """Drop the key `kid`; return how many sessions have tokens that this invalidates.

    A key that still verifies valid tokens is dropped only `at_once`. If it is active, its successor becomes active now;
    a missing one is generated. Dropping a pending key undoes its rotation. Sessions whose refresh token was
    signed by the key are revoked.

    Raises:
        errors.KeyNotFound, errors.KeyInUse
    """
    with db.writing() as writer:
        row = _get(writer, kid)
        use: Use = "access" if row.use == "access" else "refresh"
        _not_retired(writer, use)
        writer.refresh(row)
        if row.retired_at is not None:
            raise errors.KeyNotFound
        affected = sessions_signed_by(writer, row, now)
        count = count_sessions(writer, affected)
        verifies = row.verifies_until is None or row.verifies_until > now
        if verifies and row.activates_at <= now and not at_once:
            raise errors.KeyInUse(detail=f"The key still verifies valid tokens of {count} sessions: see --now.")
        row.retired_at = now
        writer.flush()
        _ensure_active_key(writer, use, row, now)
        audit.record(writer, "key_retired", now, reason=f"{use} {kid}")
    if use == "refresh":
        for _ in sessions.revoke_batches(affected, "key_dropped", now):
            pass  # in batches: the tokens are invalid already, and there may be a million sessions
    return count


def count_affected_sessions(kid: str, now: datetime) -> int:
    """Return the number of live sessions that may have valid tokens signed by `kid`.

    Raises:
        errors.KeyNotFound
    """
    with db.reading() as reader:
        return count_sessions(reader, sessions_signed_by(reader, _get(reader, kid), now))


def unreadable(now: datetime) -> Sequence[str]:
    """Return the kids of needed keys that no available ``SECRET_KEY`` decrypts."""
    with db.reading() as reader:
        rows = reader.scalars(sa.select(SigningKey).where(SigningKey.retired_at.is_(None))).all()
    return [row.kid for row in rows if (row.verifies_until or now) >= now and not storage.is_readable(row)]


def _next_serial(writer: orm.Session, use: Use) -> int:
    return (writer.scalar(sa.select(sa.func.max(SigningKey.serial)).where(SigningKey.use == use)) or 0) + 1


def _add(
    writer: orm.Session, use: Use, serial: int, key: tuple[Alg, bytes], now: datetime, *, activates_at: datetime
) -> SigningKey:
    alg, material = key
    kid = kid_of(alg, material)
    open_key(kid, use, alg, material)
    row = SigningKey(
        kid=kid,
        use=use,
        serial=serial,
        algorithm=alg,
        encrypted=storage.encrypt_material(material, kid=kid, use=use, alg=alg),
        created_at=now,
        activates_at=activates_at,
        verifies_until=None,
        retired_at=None,
    )
    writer.add(row)
    audit.record(writer, "key_created", now, reason=f"{use} {kid}")
    writer.flush()
    return row


def _not_retired(writer: orm.Session, use: Use) -> Sequence[SigningKey]:
    """Lock and return the keys of one use that are not retired."""
    of_use = sa.select(SigningKey.kid).where(SigningKey.use == use)
    writer.execute(of_use.order_by(SigningKey.serial).with_for_update()).all()
    # Query again: a statement that waited for the lock does not see rows added before it got the lock.
    rows = sa.select(SigningKey).where(SigningKey.use == use, SigningKey.retired_at.is_(None))
    return writer.scalars(rows.order_by(SigningKey.serial).execution_options(populate_existing=True)).all()


def _get(reader: orm.Session, kid: str) -> SigningKey:
    row = reader.get(SigningKey, kid)
    if row is None or row.retired_at is not None:
        raise errors.KeyNotFound
    return row


def _supersede(writer: orm.Session, successor: SigningKey, settings: config.Settings) -> None:
    """Set until when the keys before `successor` verify: until their tokens expire."""
    lifetime = settings.access_lifetime if successor.use == "access" else settings.refresh_lifetime
    until = successor.activates_at + timedelta(seconds=lifetime + settings.revocation_delay) + _CLOCK_SLACK
    earlier = (
        SigningKey.use == successor.use,
        SigningKey.serial < successor.serial,
        SigningKey.verifies_until.is_(None),
    )
    writer.execute(sa.update(SigningKey).where(*earlier).values(verifies_until=until))


def _ensure_active_key(writer: orm.Session, use: Use, dropped: SigningKey, now: datetime) -> None:
    """Make sure that a key later than `dropped` is active.

    An earlier key must not become active again.
    """
    if dropped.activates_at > now:
        _undo_rotation(writer, use, dropped)
        return
    later = [row for row in _not_retired(writer, use) if row.serial > dropped.serial]
    if any(row.activates_at <= now for row in later):
        return
    successor = later[0] if later else None
    if successor is None:
        alg: Alg = next(each for each in ALGORITHMS if each == dropped.algorithm)
        successor = _add(writer, use, _next_serial(writer, use), (alg, generate(alg)), now, activates_at=now)
    successor.activates_at = now
    _supersede(writer, successor, config.current())


def _undo_rotation(writer: orm.Session, use: Use, dropped: SigningKey) -> None:
    """Undo the rotation to the pending key `dropped`; let the active key stay active."""
    for row in reversed(_not_retired(writer, use)):
        if row.serial < dropped.serial:
            row.verifies_until = None
            return


def _state(row: SigningKey, now: datetime, *, active: bool) -> State:
    if row.retired_at is not None or (row.verifies_until is not None and row.verifies_until <= now):
        return "retired"
    if row.activates_at > now:
        return "pending"
    return "active" if active else "retiring"
