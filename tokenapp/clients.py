"""Clients: other services with credentials for introspection and revocation."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final, get_args

import sqlalchemy as sa

from tokenapp import audit, db, errors
from tokenapp.models import Client, Right

RIGHTS: Final[tuple[Right, ...]] = get_args(Right)
_NO_HASH: Final = "0" * 64


def create(name: str, rights: Sequence[Right], now: datetime) -> tuple[Client, str]:
    """Create a client and return it with its secret, which is not stored."""
    secret = secrets.token_urlsafe(32)
    client = Client(id=f"client-{db.new_id(now)}", name=name, secret_hash=_digest(secret), created_at=now)
    client.rights = " ".join(right for right in RIGHTS if right in rights)
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


def authenticate(client_id: str, secret: str, right: Right, now: datetime) -> None:
    """Check the credentials of a client and its right.

    One SHA-256 suffices for the stored secret, because it has 256 random bits. A wrong secret is recorded in the audit
    log, which is committed before the error is raised.

    Raises:
        errors.InvalidClient, errors.ClientNotAllowed
    """
    with db.reading() as session:
        client = session.get(Client, client_id)
    if not hmac.compare_digest(client.secret_hash if client else _NO_HASH, _digest(secret)) or client is None:
        if client is not None:
            audit.count("client_failed", now, about=client_id, reason=client_id)
        raise errors.InvalidClient
    if right not in client.rights.split():
        raise errors.ClientNotAllowed


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
