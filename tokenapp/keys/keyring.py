"""The keyring: a process's consistent snapshot of the keys that sign and verify.

The state of a stored key follows from three times in its row, so that all processes agree on it. It is published when
it is created, signs from `activates_at` until its successor does, and verifies until `verifies_until`.
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
from tokenapp.keys import lifecycle, storage
from tokenapp.keys.material import USES, Key, Use, from_setting
from tokenapp.models import SigningKey

log = logging.getLogger(__name__)
_NEVER: Final = datetime(1970, 1, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Keyring:
    """All keys at one moment. Always sign and name the key from the same keyring.

    `verified` caches the claims of tokens whose signature was verified by these keys. `named` caches the keys that
    encoded token headers name. Both are dropped with the keyring when the keys change.
    """

    signing: Mapping[Use, Key]
    by_kid: Mapping[str, Key]
    named: dict[bytes, Key] = field(default_factory=dict)
    verified: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class _Cache:
    """One process's keyring, its validity, and the keys decrypted so far."""

    ring: Keyring | None = None
    read_at: datetime = _NEVER
    good_after: datetime = _NEVER
    good_until: datetime = _NEVER
    opened: dict[str, Key] = field(default_factory=dict)
    renewing: threading.Lock = field(default_factory=threading.Lock)


_STORED: Final = sa.select(SigningKey).where(SigningKey.retired_at.is_(None)).order_by(SigningKey.serial)
_KID: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
_UNKNOWN_KID_INTERVAL: Final = timedelta(seconds=0.1)


def current(now: datetime) -> Keyring:
    """Return this process's keyring.

    It is compared with the database at most once per revocation delay. While the database is unavailable, the keyring
    stays in use; the revocation list decides which tokens are revoked.

    Raises:
        errors.ServiceUnavailable: a stored key was encrypted under another ``SECRET_KEY``.
        sqlalchemy.exc.DBAPIError: there is no keyring yet, and the database is unavailable.
    """
    state = db.current().state
    cache: _Cache = state[_Cache] if _Cache in state else db.per_process(_Cache)
    if cache.ring is None or not cache.good_after < now < cache.good_until:
        # All wait for the renewal: tokens signed by a dropped key must not pass while another request renews.
        with cache.renewing:
            if cache.ring is None:
                return _renew(cache, now)
            if not cache.good_after < now < cache.good_until:
                try:
                    return _renew(cache, now)
                except Exception as fault:
                    if not db.is_fault(fault):
                        raise
                    _set_validity(cache, now)
    return cache.ring


def cached() -> Keyring | None:
    """Return this process's keyring if it was read before, without a database query."""
    return db.per_process(_Cache).ring


def find(kid: str, now: datetime) -> Key | None:
    """Return the key named `kid` if it verifies tokens now.

    An unknown name renews the keyring, at most ten times a second: a key that replaced a dropped one may sign before
    this process has read it.

    Raises:
        sqlalchemy.exc.DBAPIError: the name is unknown, and the database is unavailable.
    """
    found = current(now).by_kid.get(kid)
    if found is not None or not _KID.fullmatch(kid):
        return found
    cache = db.per_process(_Cache)
    with cache.renewing:
        if abs(now - cache.read_at) >= _UNKNOWN_KID_INTERVAL:
            _renew(cache, now)
    return cache.ring.by_kid.get(kid) if cache.ring is not None else None


def load(now: datetime) -> Keyring:
    """Read the keyring from settings and database; create the first keys if needed."""
    cache = db.per_process(_Cache)
    with cache.renewing:
        return _renew(cache, now)


def public_set(now: datetime) -> Sequence[Mapping[str, str]]:
    """Return the public access-token keys as JWKs (RFC 7517, 5), also pending ones."""
    jwks = (key.jwk() for key in current(now).by_kid.values() if key.use == "access")
    return [jwk for jwk in jwks if jwk is not None]


def _renew(cache: _Cache, now: datetime) -> Keyring:
    ring = _read(cache, now)
    # Keep an unchanged keyring, and its cache of verified tokens with it.
    if cache.ring is None or ring.signing != cache.ring.signing or ring.by_kid != cache.ring.by_kid:
        cache.ring = ring
    cache.read_at = now
    _set_validity(cache, now)
    return cache.ring


def _set_validity(cache: _Cache, now: datetime) -> None:
    # A keyring from the future is invalid, too: the clock was set back, so its age is unknown.
    delay = timedelta(seconds=config.current().revocation_delay)
    cache.good_after, cache.good_until = now - delay, now + delay


def _read(cache: _Cache, now: datetime) -> Keyring:
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
            lifecycle.create_first(use, now)
            rows = _stored(now)
        for row in rows:
            if row.use == use and (key := _try_open(cache, row, now)) is not None:
                by_kid[row.kid] = key
                # If none is active yet, use the earliest: another host's clock is ahead.
                if row.activates_at <= now or use not in signing:
                    signing[use] = key
        for value in (*former, secret):
            if value:
                given_key = from_setting(value, use)
                by_kid[given_key.kid] = cache.opened.setdefault(given_key.kid, given_key)
        if secret:
            signing[use] = by_kid[from_setting(secret, use).kid]
    return Keyring(signing, by_kid)


@db.retried
def _stored(now: datetime) -> Sequence[SigningKey]:
    """Return the stored keys that verify now or later, in order of activation."""
    with db.reading() as session:
        return [row for row in session.scalars(_STORED) if row.verifies_until is None or row.verifies_until > now]


def _try_open(cache: _Cache, row: SigningKey, now: datetime) -> Key | None:
    """Open a stored key; return None for a pending key that cannot be decrypted.

    An operator then has time to fix it.

    Raises:
        errors.ServiceUnavailable: the key is needed and was encrypted under another ``SECRET_KEY``.
    """
    try:
        return _open(cache, row)
    except errors.ServiceUnavailable as error:
        if row.activates_at <= now:
            raise
        log.error("the pending key cannot be decrypted; all requests will fail once it is active: %s", error.reason)  # noqa: TRY400 -- no bug
        return None


def _open(cache: _Cache, row: SigningKey) -> Key:
    key = cache.opened.get(row.kid)
    if key is None:
        key, outdated = storage.open_row(row)
        cache.opened[row.kid] = key
        if outdated:
            _encrypt_again(row)
    return key


def _encrypt_again(row: SigningKey) -> None:
    """Encrypt the key under the current ``SECRET_KEY``, if the database is writable.

    Otherwise the next start tries again.
    """
    try:
        storage.encrypt_again(row)
    except Exception as fault:
        if not db.is_fault(fault):
            raise
        log.warning("the key %s could not be encrypted again", row.kid)
