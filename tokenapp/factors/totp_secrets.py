"""Stored TOTP secrets: encrypted, and bound to their authenticator app."""

from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from tokenapp import db, encryption, errors
from tokenapp.factor_models import Totp

BATCH: Final = 200
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
    states = [_is_outdated(row) for row in rows]
    return Outdated(states.count(True), states.count(None))


def encrypt_again() -> Iterator[Outdated]:
    """Encrypt what a former ``SECRET_KEY`` encrypted under the current one.

    Yields for each batch how many secrets were replaced, and how many no key decrypts. Others can write between them.
    """
    last = ""
    while True:
        began = monotonic()
        with db.reading() as session:
            rows = session.scalars(sa.select(Totp).where(Totp.id > last).order_by(Totp.id).limit(BATCH)).all()
        if not rows:
            return
        last = rows[-1].id
        states = [_is_outdated(row) for row in rows]
        former = [row for row, outdated in zip(rows, states, strict=True) if outdated]
        yield Outdated(_replace(former) if former else 0, states.count(None))
        db.yield_to_writers(began)


@db.retried
def _replace(rows: Sequence[Totp]) -> int:
    with db.writing() as writer:
        return sum(_replace_one(writer, row) for row in rows)


def _replace_one(writer: orm.Session, row: Totp) -> int:
    """Replace one secret, unless a sign-in or a confirmation has replaced it."""
    secret, _ = decrypt(row)
    unchanged = (Totp.id == row.id, Totp.encrypted == row.encrypted)
    replacing = sa.update(Totp).where(*unchanged).values(encrypted=encrypt(secret, row.id))
    return writer.connection().execute(replacing).rowcount


def _is_outdated(row: Totp) -> bool | None:
    """Return whether a former key encrypted a secret; None if no key decrypts it."""
    try:
        return decrypt(row)[1]
    except errors.ServiceUnavailable:
        return None
