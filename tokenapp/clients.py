"""Other services that may ask us about tokens: made by an operator, known by a secret that is shown once."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from tokenapp import audit, db, errors
from tokenapp.models import Client

_NOBODY: Final = "0" * 64


def create(name: str, now: datetime) -> tuple[Client, str]:
    """Create a client; return it with its secret, which cannot be had again."""
    secret = secrets.token_urlsafe(32)
    client = Client(id=f"client-{db.new_id(now)}", name=name, secret_hash=_digest(secret), created_at=now)
    with db.writing() as writer:
        writer.add(client)
        audit.record(writer, "client_created", now, reason=client.id)
    return client, secret


def list_clients() -> Sequence[Client]:
    """Return all clients, oldest first."""
    with db.reading() as session:
        return session.scalars(sa.select(Client).order_by(Client.id)).all()


@db.retried
def delete(client_id: str, now: datetime) -> None:
    """Delete a client: its secret is good for nothing from now on.

    Raises:
        errors.ClientNotFound
    """
    with db.writing() as writer:
        if not writer.connection().execute(sa.delete(Client).where(Client.id == client_id)).rowcount:
            raise errors.ClientNotFound
        audit.record(writer, "client_deleted", now, reason=client_id)


def authenticate(client_id: str, secret: str) -> bool:
    """Whether there is such a client and this is its secret.

    The secret is 256 random bits, so one SHA-256 keeps it: nobody can guess what it was made of.
    """
    with db.reading() as session:
        stored = session.scalar(sa.select(Client.secret_hash).where(Client.id == client_id))
    return hmac.compare_digest(stored or _NOBODY, _digest(secret)) and stored is not None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
