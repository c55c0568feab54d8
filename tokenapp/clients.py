"""Clients: other services with credentials for introspection and revocation."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, get_args

import sqlalchemy as sa

from tokenapp import audit, db, errors
from tokenapp.db import last_use
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


def find(subject: str) -> Client:
    """Return the client with that id or name.

    Raises:
        errors.ClientNotFound: no client has it, or several have that name.
    """
    with db.reading() as session:
        found = session.scalars(sa.select(Client).where(sa.or_(Client.id == subject, Client.name == subject))).all()
    if len(found) > 1:
        raise errors.ClientNotFound(detail="There are several clients of that name. Give the id of one.")
    if not found:
        raise errors.ClientNotFound
    return found[0]


@db.retried
def rotate_secret(client_id: str, overlap: timedelta, now: datetime) -> str:
    """Give a client a new secret, and return it.

    Args:
        overlap: how long the replaced secret is still accepted. An older one is not.

    Raises:
        errors.ClientNotFound
    """
    secret = secrets.token_urlsafe(32)
    replaced = {
        "secret_hash": _digest(secret),
        "previous_secret_hash": Client.secret_hash if overlap else None,
        "previous_secret_until": now + overlap if overlap else None,
    }
    with db.writing() as writer:
        if not writer.connection().execute(sa.update(Client).where(Client.id == client_id).values(replaced)).rowcount:
            raise errors.ClientNotFound
        audit.record(writer, "client_secret_rotated", now, reason=client_id)
    return secret


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
    """Check the credentials of a client and its right, and note the use.

    One SHA-256 suffices for the stored secret, because it has 256 random bits. A wrong secret is recorded in the audit
    log, which is committed before the error is raised.

    Raises:
        errors.InvalidClient, errors.ClientNotAllowed
    """
    with db.reading() as session:
        client = session.get(Client, client_id)
    if not _is_secret_of(client, secret, now) or client is None:
        if client is not None:
            audit.count("client_failed", now, about=client_id, reason=client_id)
        raise errors.InvalidClient
    if right not in client.rights.split():
        raise errors.ClientNotAllowed
    last_use.note(Client, client, now)


def _is_secret_of(client: Client | None, secret: str, now: datetime) -> bool:
    """Return whether the secret is the current one, or the previous in its overlap."""
    digest = _digest(secret)
    if hmac.compare_digest(client.secret_hash if client else _NO_HASH, digest):
        return client is not None
    if client is None or client.previous_secret_hash is None or client.previous_secret_until is None:
        return False
    return now < client.previous_secret_until and hmac.compare_digest(client.previous_secret_hash, digest)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
