"""Stored signing keys: the private part is encrypted, bound to kid and use."""

from typing import Final

import sqlalchemy as sa

from tokenapp import db, encryption, errors
from tokenapp.keys.material import USES, Key, open_key
from tokenapp.models import SigningKey

_PURPOSE: Final = "signing keys"


def encrypt_material(material: bytes, *, kid: str, use: str, alg: str) -> bytes:
    """Encrypt the private part of a key for storage."""
    return encryption.encrypt(material, purpose=_PURPOSE, context=f"{kid}|{use}|{alg}")


def open_row(row: SigningKey) -> tuple[Key, bool]:
    """Return the key of a row, and whether a former ``SECRET_KEY`` encrypted it.

    Raises:
        errors.ServiceUnavailable: neither ``SECRET_KEY`` nor one of its fallbacks decrypts it.
    """
    material, outdated = _decrypt(row)
    use = USES[0] if row.use == USES[0] else USES[1]
    return open_key(row.kid, use, row.algorithm, material), outdated


def is_readable(row: SigningKey) -> bool:
    """Return whether the key can be decrypted."""
    try:
        _decrypt(row)
    except errors.ServiceUnavailable:
        return False
    return True


def encrypt_again(row: SigningKey) -> None:
    """Encrypt a stored key under the current ``SECRET_KEY``."""
    material, _ = _decrypt(row)
    encrypted = encrypt_material(material, kid=row.kid, use=row.use, alg=row.algorithm)
    unchanged = (SigningKey.kid == row.kid, SigningKey.encrypted == row.encrypted)
    db.execute_now(sa.update(SigningKey).where(*unchanged).values(encrypted=encrypted))


def _decrypt(row: SigningKey) -> tuple[bytes, bool]:
    context = f"{row.kid}|{row.use}|{row.algorithm}"
    try:
        return encryption.decrypt(row.encrypted, purpose=_PURPOSE, context=context)
    except encryption.UndecryptableError:
        raise errors.ServiceUnavailable(reason=f"key {row.kid} was encrypted under another SECRET_KEY") from None
