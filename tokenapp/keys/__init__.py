"""The keyring: the keys that sign, those that still verify; one consistent snapshot in each process.

A stored key's whole life follows from three times in its row, so that every process agrees on it without being told:
published when it is made, signing from `activates_at` until its successor's, verifying until `verifies_until`.
"""

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from tokenapp import config, db, errors
from tokenapp.keys import life, sealing
from tokenapp.keys.material import ALGORITHMS, USES, Alg, Key, Use, of_setting, open_key, read_pem, thumbprint
from tokenapp.models import SigningKey

__all__ = [
    "ALGORITHMS",
    "USES",
    "Alg",
    "Key",
    "Keyring",
    "Use",
    "current",
    "find",
    "known",
    "life",
    "load",
    "public_set",
    "read_pem",
    "thumbprint",
]

log = logging.getLogger(__name__)
_NEVER: Final = datetime(1970, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Keyring:
    """All keys at one moment. Sign and name the key from one ring, never from two.

    `verified` holds the claims of tokens whose signature was good under these very keys, and `named` the keys that
    headers of tokens were found to name, each header as it is spelt; both go when the keys change.
    """

    signing: Mapping[Use, Key]
    by_kid: Mapping[str, Key]
    named: dict[bytes, Key] = field(default_factory=dict)
    verified: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class _Known:
    """One process's ring, when it was read, from when to when it is good, and the keys that were opened so far."""

    ring: Keyring | None = None
    read_at: datetime = _NEVER
    good_after: datetime = _NEVER
    good_until: datetime = _NEVER
    opened: dict[str, Key] = field(default_factory=dict)
    renewing: threading.Lock = field(default_factory=threading.Lock)


_STORED: Final = sa.select(SigningKey).where(SigningKey.retired_at.is_(None)).order_by(SigningKey.serial)
_KID: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_UNKNOWN_KID_EVERY: Final = timedelta(seconds=0.1)


def current(now: datetime) -> Keyring:
    """Return this process's keyring, compared with the database at most once per revocation delay.

    While the database is away the ring of before goes on: it is the list of ended sessions that decides what is dead.

    Raises:
        errors.ServiceUnavailable: a stored key was sealed under another ``SECRET_KEY``.
        sqlalchemy.exc.DBAPIError: there is no ring yet, and the database is away.
    """
    known = db.kept(_Known)
    if known.ring is None or not known.good_after < now < known.good_until:
        # Whoever finds it too old waits: what a dropped key signed must not pass because another request is asking.
        with known.renewing:
            if known.ring is None:
                return _renew(known, now)
            if not known.good_after < now < known.good_until:
                try:
                    return _renew(known, now)
                except Exception as fault:
                    if not db.is_fault(fault):
                        raise
                    _note_good(known, now)
    return known.ring


def known() -> Keyring | None:
    """Return this process's keyring if it was read before; ask nobody."""
    return db.kept(_Known).ring


def find(kid: str, now: datetime) -> Key | None:
    """Return the key named `kid`, if it verifies now.

    A key can be in use before this process has heard of it, when it replaces one that was dropped; so a name that is
    not known makes the ring be read anew, at most ten times a second.

    Raises:
        sqlalchemy.exc.DBAPIError: the name is not known, and the database is away.
    """
    found = current(now).by_kid.get(kid)
    if found is not None or not _KID.fullmatch(kid):
        return found
    known = db.kept(_Known)
    with known.renewing:
        if abs(now - known.read_at) >= _UNKNOWN_KID_EVERY:
            _renew(known, now)
    return known.ring.by_kid.get(kid) if known.ring is not None else None


def load(now: datetime) -> Keyring:
    """Read the keyring from the settings and the database; make the stored keys at the very first use."""
    known = db.kept(_Known)
    with known.renewing:
        return _renew(known, now)


def public_set(now: datetime) -> Sequence[Mapping[str, str]]:
    """Return the public access keys as JWKs, those to come included; shared secrets have none (RFC 7517, 5)."""
    jwks = (key.jwk() for key in current(now).by_kid.values() if key.use == "access")
    return [jwk for jwk in jwks if jwk is not None]


def _renew(known: _Known, now: datetime) -> Keyring:
    ring = _read(known, now)
    # An unchanged ring is kept, and with it what it knows of tokens that were verified.
    if known.ring is None or ring.signing != known.ring.signing or ring.by_kid != known.ring.by_kid:
        known.ring = ring
    known.read_at = now
    _note_good(known, now)
    return known.ring


def _note_good(known: _Known, now: datetime) -> None:
    # A ring from the future is not good either: the clock was set back, and its age cannot be told.
    delay = timedelta(seconds=config.current().revocation_delay)
    known.good_after, known.good_until = now - delay, now + delay


def _read(known: _Known, now: datetime) -> Keyring:
    settings = config.current()
    given = {
        "access": (settings.access_token_secret, settings.access_token_secret_fallbacks),
        "refresh": (settings.refresh_token_secret, settings.refresh_token_secret_fallbacks),
    }
    rows = _stored(now)
    signing: dict[Use, Key] = {}
    by_kid: dict[str, Key] = {}
    for use in USES:
        secret, former = given[use]
        if not secret and not any(row.use == use for row in rows):
            life.make_first(use, now)
            rows = _stored(now)
        for row in rows:
            if row.use == use and (key := _try_open(known, row, now)) is not None:
                by_kid[row.kid] = key
                # The earliest, where none is to sign yet: another host's clock is ahead of ours.
                if row.activates_at <= now or use not in signing:
                    signing[use] = key
        for value in (*former, secret):
            if value:
                given_key = of_setting(value, use)
                by_kid[given_key.kid] = known.opened.setdefault(given_key.kid, given_key)
        if secret:
            signing[use] = by_kid[of_setting(secret, use).kid]
    return Keyring(signing, by_kid)


@db.retried
def _stored(now: datetime) -> Sequence[SigningKey]:
    """Return the stored keys that verify now or will, in the order in which they sign."""
    with db.reading() as session:
        return [row for row in session.scalars(_STORED) if row.verifies_until is None or row.verifies_until > now]


def _try_open(known: _Known, row: SigningKey, now: datetime) -> Key | None:
    """Open a stored key; leave out one that is not needed yet and cannot be opened, so that there is time to mend it.

    Raises:
        errors.ServiceUnavailable: it is needed, and was sealed under another ``SECRET_KEY``.
    """
    try:
        return _open(known, row)
    except errors.ServiceUnavailable as refusal:
        if row.activates_at <= now:
            raise
        log.error("the next key cannot be opened, all requests fail once it signs: %s", refusal.reason)  # noqa: TRY400 -- no bug
        return None


def _open(known: _Known, row: SigningKey) -> Key:
    key = known.opened.get(row.kid)
    if key is None:
        material, former = sealing.unseal(row)
        key = known.opened[row.kid] = open_key(
            row.kid, "access" if row.use == USES[0] else "refresh", row.algorithm, material
        )
        if former:
            _reseal(row, material)
    return key


def _reseal(row: SigningKey, material: bytes) -> None:
    """Seal the key anew under the present ``SECRET_KEY``; if the database takes no writes, the next start does it."""
    try:
        life.reseal(row, material)
    except Exception as fault:
        if not db.is_fault(fault):
            raise
        log.warning("the key %s could not be sealed anew", row.kid)
