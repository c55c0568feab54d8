"""Stored TOTP secrets: encrypted, and bound to their authenticator app."""

from typing import Final, NamedTuple

import sqlalchemy as sa

from tokenapp import db, encryption, errors
from tokenapp.factor_models import Totp

_PURPOSE: Final = "totp secrets"


class Outdated(NamedTuple):
    """How many secrets a former ``SECRET_KEY`` encrypted, and how many none."""

    former: int
    unreadable: int


def encrypt(secret: str, totp_id: str) -> bytes:
    """Encrypt a secret for storage."""
    return encryption.encrypt(secret.encode(), purpose=_PURPOSE, context=totp_id)


def decrypt(row: Totp) -> tuple[str, bool]:
    """Return a secret, and whether a former ``SECRET_KEY`` encrypted it.

    Raises:
        errors.ServiceUnavailable: neither ``SECRET_KEY`` nor one of its fallbacks decrypts it.
    """
    try:
        secret, outdated = encryption.decrypt(row.encrypted, purpose=_PURPOSE, context=row.id)
    except encryption.UndecryptableError:
        raise errors.ServiceUnavailable(reason="a TOTP secret was encrypted under another SECRET_KEY") from None
    return secret.decode(), outdated


def count_outdated() -> Outdated:
    """Count the secrets of confirmed apps that the current key does not decrypt."""
    with db.reading() as session:
        rows = session.scalars(sa.select(Totp).where(Totp.confirmed_at.is_not(None))).all()
    former = unreadable = 0
    for row in rows:
        try:
            former += decrypt(row)[1]
        except errors.ServiceUnavailable:
            unreadable += 1
    return Outdated(former, unreadable)
