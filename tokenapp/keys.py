"""The keyring: the keys that sign, those that still verify, and how they are kept (sealed under ``SECRET_KEY``)."""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwt.algorithms import Algorithm, ECAlgorithm, HMACAlgorithm
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from tokenapp import config, db, errors, events
from tokenapp.models import SigningKey

Use = Literal["access", "refresh"]
USES: Final[tuple[Use, ...]] = ("access", "refresh")
_NONCE_BYTES: Final = 12
_HS256: Final = HMACAlgorithm(HMACAlgorithm.SHA256)
_ES256: Final = ECAlgorithm(ECAlgorithm.SHA256, ec.SECP256R1)


@dataclass(frozen=True, slots=True)
class Key:
    """A key ready for work; what it may be used for, and with which algorithm, is its own and never the token's say."""

    kid: str
    use: Use
    alg: Literal["ES256", "HS256"]
    secret: Any = field(repr=False)
    public: Any = field(repr=False)

    @property
    def typ(self) -> str:
        """The ``typ`` header of the tokens that this key signs (RFC 9068, 2.1, for access tokens)."""
        return "at+jwt" if self.use == "access" else "refresh+jwt"

    def sign(self, message: bytes) -> bytes:
        """Sign `message`."""
        return self._algorithm.sign(message, self.secret)

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's, over `message`."""
        return self._algorithm.verify(message, self.public, signature)

    @property
    def _algorithm(self) -> Algorithm:
        return _ES256 if self.alg == "ES256" else _HS256


@dataclass(frozen=True, slots=True)
class Keyring:
    """All keys at one moment. Sign and name the key from one ring, never from two.

    `verified` holds the claims of tokens whose signature was good under these very keys; it goes when they change.
    """

    signing: Mapping[Use, Key]
    by_kid: Mapping[str, Key]
    loaded_at: datetime
    verified: dict[str, dict[str, Any]] = field(default_factory=dict)


_rings: WeakKeyDictionary[Engine, Keyring] = WeakKeyDictionary()


def current(now: datetime) -> Keyring:
    """Return this process's keyring; make the stored keys at the very first use.

    Raises:
        errors.ServiceUnavailable: the stored keys were sealed under another ``SECRET_KEY``.
    """
    ring = _rings.get(db.db.engine)
    return ring if ring is not None else load(now)


def known() -> Keyring | None:
    """Return this process's keyring if it was read before; ask nobody."""
    return _rings.get(db.db.engine)


def find(kid: str, now: datetime) -> Key | None:
    """Return the key named `kid`; look once more in the database, at most once per revocation delay."""
    ring = current(now)
    if kid not in ring.by_kid and abs(now - ring.loaded_at) >= timedelta(seconds=config.current().revocation_delay):
        ring = load(now)
    return ring.by_kid.get(kid)


def load(now: datetime) -> Keyring:
    """Read the keyring from the settings and the database, and keep it for this process."""
    settings = config.current()
    given = {
        "access": (settings.access_token_secret, settings.access_token_secret_fallbacks),
        "refresh": (settings.refresh_token_secret, settings.refresh_token_secret_fallbacks),
    }
    signing: dict[Use, Key] = {}
    by_kid: dict[str, Key] = {}
    for use in USES:
        secret, former = given[use]
        stored = _stored(use)
        if not secret and not any(row.retired_at is None for row in stored):
            _make(use, now)
            stored = _stored(use)
        for row in stored:
            by_kid[row.kid] = _unsealed(row, use)
        for value in (secret, *former):
            if value:
                key = _key_of_secret(value, use)
                by_kid[key.kid] = key
        signing[use] = _key_of_secret(secret, use) if secret else by_kid[stored[0].kid]
    ring = _rings[db.db.engine] = Keyring(signing, by_kid, now)
    return ring


def _stored(use: Use) -> list[SigningKey]:
    """Return the stored keys, the one that signs first."""
    newest_first = sa.select(SigningKey).where(SigningKey.use == use)
    newest_first = newest_first.order_by(SigningKey.retired_at.is_not(None), SigningKey.created_at.desc())
    with db.reading() as session:
        return list(session.scalars(newest_first))


def _make(use: Use, now: datetime) -> None:
    """Make and store the first key; of several workers that try at once, the database lets one win."""
    if use == "access":
        private = ec.generate_private_key(ec.SECP256R1())
        encoding, form = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
        plain, alg = private.private_bytes(encoding, form, serialization.NoEncryption()), "ES256"
    else:
        plain, alg = secrets.token_bytes(32), "HS256"
    kid = secrets.token_urlsafe(12)
    nonce = os.urandom(_NONCE_BYTES)
    sealed = nonce + _sealer().encrypt(nonce, plain, _label(kid, use, alg))
    try:
        with db.writing() as session:
            session.add(SigningKey(kid=kid, use=use, algorithm=alg, sealed=sealed, created_at=now, retired_at=None))
            events.record(session, "key_created", now, reason=f"{use} {kid}")
    except IntegrityError:
        return  # another worker was first, and its key is as good


def _unsealed(row: SigningKey, use: Use) -> Key:
    nonce, sealed = row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:]
    try:
        plain = _sealer().decrypt(nonce, sealed, _label(row.kid, row.use, row.algorithm))
    except InvalidTag:
        raise errors.ServiceUnavailable(reason=f"key {row.kid} was sealed under another SECRET_KEY") from None
    if row.algorithm == "HS256":
        return Key(row.kid, use, "HS256", secret=plain, public=plain)
    private = serialization.load_der_private_key(plain, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise errors.ServiceUnavailable(reason=f"key {row.kid} is not a P-256 key")
    return Key(row.kid, use, "ES256", secret=private, public=private.public_key())


def _key_of_secret(value: str, use: Use) -> Key:
    """Make a key of a secret from the settings; its kid is the same in every process and tells nothing of it."""
    secret = value.encode()
    digest = hmac.digest(secret, f"tokenapp kid {use}".encode(), hashlib.sha256)
    kid = base64.urlsafe_b64encode(digest[:12]).decode()
    return Key(kid, use, "HS256", secret=secret, public=secret)


def _sealer() -> AESGCM:
    """Derive the key that seals the ring's private parts (HKDF, RFC 5869)."""
    hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"tokenapp signing keys v1")
    return AESGCM(hkdf.derive(config.current().secret_key.encode()))


def _label(kid: str, use: str, alg: str) -> bytes:
    """Bind a sealed key to its name and purpose, so that rows cannot be swapped."""
    return f"{kid}|{use}|{alg}".encode()
