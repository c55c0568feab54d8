"""How private keys lie in the database: sealed with AES-256-GCM under a key that HKDF makes of ``SECRET_KEY``."""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tokenapp import config, errors
from tokenapp.models import SigningKey

_NONCE_BYTES: Final = 12


def seal(material: bytes, *, kid: str, use: str, alg: str) -> bytes:
    """Seal `material` under the present ``SECRET_KEY``, bound to the key's name and purpose."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _sealer(config.current().secret_key).encrypt(nonce, material, _label(kid, use, alg))


def unseal(row: SigningKey) -> tuple[bytes, bool]:
    """Return a stored key's material, and whether it was sealed under a former ``SECRET_KEY``.

    Raises:
        errors.ServiceUnavailable: neither ``SECRET_KEY`` nor one of its fallbacks opens it.
    """
    settings = config.current()
    nonce, sealed = row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:]
    for secret_key in (settings.secret_key, *settings.secret_key_fallbacks):
        try:
            material = _sealer(secret_key).decrypt(nonce, sealed, _label(row.kid, row.use, row.algorithm))
        except InvalidTag:
            continue
        return material, secret_key != settings.secret_key
    raise errors.ServiceUnavailable(reason=f"key {row.kid} was sealed under another SECRET_KEY")


def opens(row: SigningKey) -> bool:
    """Whether the stored key can be unsealed."""
    try:
        unseal(row)
    except errors.ServiceUnavailable:
        return False
    return True


def _sealer(secret_key: str) -> AESGCM:
    hkdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"tokenapp signing keys v1")
    return AESGCM(hkdf.derive(secret_key.encode()))


def _label(kid: str, use: str, alg: str) -> bytes:
    return f"{kid}|{use}|{alg}".encode()
