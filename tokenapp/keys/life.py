"""The life of a stored key: made, published, signing, superseded, retired."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.exc import IntegrityError

from tokenapp import config, db, errors, events
from tokenapp.keys import holders, sealing
from tokenapp.keys.material import ALGORITHMS, Alg, Use, kid_of, make, open_key
from tokenapp.models import SigningKey

State = Literal["next", "current", "retiring", "retired"]
FIRST_ALGORITHM: Final[dict[Use, Alg]] = {"access": "ES256", "refresh": "HS256"}
_CLOCK_SLACK: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What an operator sees of a key."""

    kid: str
    use: str
    algorithm: str
    state: State
    created_at: datetime
    activates_at: datetime
    verifies_until: datetime | None


def list_keys(now: datetime) -> Sequence[KeyInfo]:
    """Return all stored keys, oldest first, with what they are at this moment."""
    with db.reading() as session:
        rows = session.scalars(sa.select(SigningKey).order_by(SigningKey.use, SigningKey.serial)).all()
    signing = {row.use: row.kid for row in rows if row.retired_at is None and row.activates_at <= now}
    return [
        KeyInfo(
            row.kid,
            row.use,
            row.algorithm,
            _state(row, now, current=signing.get(row.use) == row.kid),
            row.created_at,
            row.activates_at,
            row.verifies_until,
        )
        for row in rows
    ]


@db.retried
def make_first(use: Use, now: datetime) -> None:
    """Make and store the first key; of several processes that try at once, the database lets one win."""
    try:
        with db.writing() as writer:
            serial = _next_serial(writer, use)  # before the look: whoever commits in between has taken it, or is seen
            if not any(row.verifies_until is None or row.verifies_until > now for row in _live(writer, use)):
                material = make(FIRST_ALGORITHM[use])
                _add(writer, use, serial, (FIRST_ALGORITHM[use], material), now, activates_at=now)
    except IntegrityError:
        return  # another process was first, and its key is as good


def rotate(use: Use, now: datetime, *, alg: Alg | None = None, material: bytes | None = None) -> KeyInfo:
    """Publish a key that will sign once everybody can know it: after the life that the JWK set promises to caches.

    The key that signs until then goes on verifying until the last token signed with it has expired.

    Raises:
        errors.KeyPending: there is one already that is to sign next.
        errors.KeyRejected: the key is weak, known already, or of a kind that cannot be used so.
    """
    alg = alg or FIRST_ALGORITHM[use]
    if use == "refresh" and alg != "HS256":
        raise errors.KeyRejected(detail="Refresh tokens are always signed with HS256.")
    settings = config.current()
    lead = timedelta(seconds=2 * settings.revocation_delay + (settings.jwks_lifetime if alg != "HS256" else 1))
    try:
        with db.writing() as writer:
            serial = _next_serial(writer, use)
            live = _live(writer, use)
            if any(row.activates_at > now for row in live):
                raise errors.KeyPending
            if material is not None and writer.get(SigningKey, kid_of(alg, material)) is not None:
                raise errors.KeyRejected(detail="The key is, or was, in use already: each may be only once.")
            lead = lead if live else timedelta(0)
            row = _add(writer, use, serial, (alg, material or make(alg)), now, activates_at=now + lead)
            _supersede(writer, row, settings)
    except IntegrityError:
        raise errors.KeyPending from None
    return next(info for info in list_keys(now) if info.kid == row.kid)


def retire(kid: str, now: datetime, *, at_once: bool = False) -> int:
    """Drop the key `kid`; return how many sessions that costs their tokens.

    A key that still verifies live tokens is dropped only `at_once`. When it signs, its successor signs from this
    moment, made on the spot if there is none. A next key that is dropped leaves all as it was before it. Sessions whose
    refresh token it signed end, for they cannot go on.

    Raises:
        errors.KeyNotFound, errors.KeyInUse
    """
    with db.writing() as writer:
        row = _not_retired(writer, kid)
        use: Use = "access" if row.use == "access" else "refresh"
        _live(writer, use)
        writer.refresh(row)
        if row.retired_at is not None:
            raise errors.KeyNotFound
        having = holders.of(writer, row, now)
        count = holders.count(writer, having)
        verifies = row.verifies_until is None or row.verifies_until > now
        if verifies and row.activates_at <= now and not at_once:
            raise errors.KeyInUse(detail=f"The key still verifies live tokens, of {count} sessions: see --now.")
        row.retired_at = now
        writer.flush()
        _ensure_signer(writer, use, row, now)
        events.record(writer, "key_retired", now, reason=f"{use} {kid}")
    if use == "refresh":
        holders.end(having, now)
    return count


def count_holders(kid: str, now: datetime) -> int:
    """Count the live sessions that have, or may have, live tokens that the key `kid` signed.

    Raises:
        errors.KeyNotFound
    """
    with db.reading() as reader:
        return holders.count(reader, holders.of(reader, _not_retired(reader, kid), now))


def unreadable(now: datetime) -> Sequence[str]:
    """Return the names of the keys that are or will be needed, and were sealed under a ``SECRET_KEY`` that is lost."""
    with db.reading() as reader:
        rows = reader.scalars(sa.select(SigningKey).where(SigningKey.retired_at.is_(None))).all()
    return [row.kid for row in rows if (row.verifies_until or now) >= now and not sealing.opens(row)]


def reseal(row: SigningKey, material: bytes) -> None:
    """Seal a key anew under the present ``SECRET_KEY``."""
    sealed = sealing.seal(material, kid=row.kid, use=row.use, alg=row.algorithm)
    same = (SigningKey.kid == row.kid, SigningKey.sealed == row.sealed)
    db.execute_now(sa.update(SigningKey).where(*same).values(sealed=sealed))


def _next_serial(writer: orm.Session, use: Use) -> int:
    return (writer.scalar(sa.select(sa.func.max(SigningKey.serial)).where(SigningKey.use == use)) or 0) + 1


def _add(
    writer: orm.Session, use: Use, serial: int, made: tuple[Alg, bytes], now: datetime, *, activates_at: datetime
) -> SigningKey:
    alg, material = made
    kid = kid_of(alg, material)
    open_key(kid, use, alg, material)
    row = SigningKey(
        kid=kid,
        use=use,
        serial=serial,
        algorithm=alg,
        sealed=sealing.seal(material, kid=kid, use=use, alg=alg),
        created_at=now,
        activates_at=activates_at,
        verifies_until=None,
        retired_at=None,
    )
    writer.add(row)
    events.record(writer, "key_created", now, reason=f"{use} {kid}")
    writer.flush()
    return row


def _live(writer: orm.Session, use: Use) -> Sequence[SigningKey]:
    """Return the keys of one use that are not retired; nobody else changes any until this transaction ends."""
    of_use = sa.select(SigningKey.kid).where(SigningKey.use == use)
    writer.execute(of_use.order_by(SigningKey.serial).with_for_update()).all()
    # Asked again, because what waited for the lock does not see what was added meanwhile.
    rows = sa.select(SigningKey).where(SigningKey.use == use, SigningKey.retired_at.is_(None))
    return writer.scalars(rows.order_by(SigningKey.serial).execution_options(populate_existing=True)).all()


def _not_retired(reader: orm.Session, kid: str) -> SigningKey:
    row = reader.get(SigningKey, kid)
    if row is None or row.retired_at is not None:
        raise errors.KeyNotFound
    return row


def _supersede(writer: orm.Session, successor: SigningKey, settings: config.Settings) -> None:
    """Let the keys before `successor` verify for as long as tokens signed with them can live."""
    lifetime = settings.access_lifetime if successor.use == "access" else settings.refresh_lifetime
    until = successor.activates_at + timedelta(seconds=lifetime + settings.revocation_delay) + _CLOCK_SLACK
    earlier = (
        SigningKey.use == successor.use,
        SigningKey.serial < successor.serial,
        SigningKey.verifies_until.is_(None),
    )
    writer.execute(sa.update(SigningKey).where(*earlier).values(verifies_until=until))


def _ensure_signer(writer: orm.Session, use: Use, dropped: SigningKey, now: datetime) -> None:
    """See to it that a key signs although `dropped` is gone: an earlier one must not come back from retiring."""
    if dropped.activates_at > now:
        _go_on_without(writer, use, dropped)
        return
    later = [row for row in _live(writer, use) if row.serial > dropped.serial]
    if any(row.activates_at <= now for row in later):
        return
    successor = later[0] if later else None
    if successor is None:
        alg: Alg = next(each for each in ALGORITHMS if each == dropped.algorithm)
        successor = _add(writer, use, _next_serial(writer, use), (alg, make(alg)), now, activates_at=now)
    successor.activates_at = now
    _supersede(writer, successor, config.current())


def _go_on_without(writer: orm.Session, use: Use, dropped: SigningKey) -> None:
    """Let the key that signs now verify without end again, as before `dropped` was to take over from it."""
    for row in reversed(_live(writer, use)):
        if row.serial < dropped.serial:
            row.verifies_until = None
            return


def _state(row: SigningKey, now: datetime, *, current: bool) -> State:
    if row.retired_at is not None or (row.verifies_until is not None and row.verifies_until <= now):
        return "retired"
    if row.activates_at > now:
        return "next"
    return "current" if current else "retiring"
