"""Clients: other services with credentials for introspection and revocation."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from tokenapp import audit, db, errors
from tokenapp.models import Client

_NO_HASH: Final = "0" * 64


def create(name: str, now: datetime) -> tuple[Client, str]:
    """Create a client and return it with its secret, which is not stored."""
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
    """Delete a client, whose secret is rejected from then on.

    Raises:
        errors.ClientNotFound
    """
    with db.writing() as writer:
        if not writer.connection().execute(sa.delete(Client).where(Client.id == client_id)).rowcount:
            raise errors.ClientNotFound
        audit.record(writer, "client_deleted", now, reason=client_id)


def authenticate(client_id: str, secret: str) -> bool:
    """Return whether these are the credentials of a client.

    One SHA-256 suffices for the stored secret, because it has 256 random bits.
    """
    with db.reading() as session:
        stored = session.scalar(sa.select(Client.secret_hash).where(Client.id == client_id))
    return hmac.compare_digest(stored or _NO_HASH, _digest(secret)) and stored is not None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
