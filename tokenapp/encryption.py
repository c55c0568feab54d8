"""Encryption of stored values: AES-256-GCM, keys derived by HKDF (RFC 5869)."""

import base64
import hashlib
import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tokenapp import config

_NONCE_BYTES: Final = 12


class UndecryptableError(Exception):
    """Neither ``SECRET_KEY`` nor one of its fallbacks decrypts the value."""


def encrypt(plaintext: bytes, *, purpose: str, context: str) -> bytes:
    """Encrypt `plaintext` under the current ``SECRET_KEY``.

    Args:
        purpose: the kind of value, such as ``signing keys``; each has a key of its own.
        context: what the value belongs to. The same context is needed to decrypt it.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _cipher(config.current().secret_key, purpose).encrypt(nonce, plaintext, context.encode())


def decrypt(encrypted: bytes, *, purpose: str, context: str) -> tuple[bytes, bool]:
    """Return the plaintext, and whether a former ``SECRET_KEY`` encrypted it.

    Raises:
        UndecryptableError: it was encrypted under another ``SECRET_KEY``, purpose or context.
    """
    settings = config.current()
    nonce, ciphertext = encrypted[:_NONCE_BYTES], encrypted[_NONCE_BYTES:]
    for secret_key in (settings.secret_key, *settings.secret_key_fallbacks):
        try:
            plaintext = _cipher(secret_key, purpose).decrypt(nonce, ciphertext, context.encode())
        except InvalidTag:
            continue
        return plaintext, secret_key != settings.secret_key
    raise UndecryptableError


def keyed_digest(text: str) -> str:
    """Return a digest of `text`, keyed with ``SECRET_KEY``, in base64url."""
    return _digest(config.current().secret_key, text)


def keyed_digests(text: str) -> set[str]:
    """Return the digests of `text` under the current and the former keys."""
    settings = config.current()
    return {_digest(secret_key, text) for secret_key in (settings.secret_key, *settings.secret_key_fallbacks)}


def matches_digest(digest: str, text: str) -> bool:
    """Return whether `digest` is that of `text` under a current or former key."""
    given = digest.encode(errors="replace")
    return any(hmac.compare_digest(given, each.encode()) for each in keyed_digests(text))


def _digest(secret_key: str, text: str) -> str:
    message = text.encode(errors="surrogatepass")  # JSON can contain lone surrogates
    return base64.urlsafe_b64encode(hmac.digest(secret_key.encode(), message, hashlib.sha256)).decode()


def _cipher(secret_key: str, purpose: str) -> AESGCM:
    hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"tokenapp {purpose} v1".encode())
    return AESGCM(hkdf.derive(secret_key.encode()))
