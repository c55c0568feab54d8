"""Settings and helpers for the tests of signing keys."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from flask import Flask

from tests.support.app import application
from tests.support.client import Client
from tokenapp import db, keys
from tokenapp.keys import lifecycle
from tokenapp.models import SigningKey

Restart = Callable[..., Flask]
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
DELAY: Final = 0.2
# The shortest times that the settings allow.
FAST: Final = {
    "WEB_CONCURRENCY": "4",
    "TOKENAPP_ISSUER": "http://localhost",
    "TOKENAPP_REVOCATION_DELAY": str(DELAY),
    "TOKENAPP_JWKS_LIFETIME": "1s",
    "TOKENAPP_ACCESS_LIFETIME": "10s",
    "TOKENAPP_REFRESH_GRACE": "1s",
}


@pytest.fixture
def restart(database_url: str) -> Iterator[Restart]:
    """Provide a function that starts the application on one database, with settings."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(application(database_url, **settings))


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


def states(app: Flask, at: datetime, use: keys.Use = "access") -> list[str]:
    """Return the states of the keys of one use at a time, the oldest key first."""
    with app.app_context():
        return [info.state for info in lifecycle.list_keys(at) if info.use == use]


def rotate(app: Flask, use: keys.Use, at: datetime, **more: Any) -> lifecycle.KeyInfo:
    """Rotate the key of one use."""
    with app.app_context():
        return lifecycle.rotate(use, at, **more)


def retire(app: Flask, kid: str, at: datetime) -> int:
    """Retire a key at once."""
    with app.app_context():
        return lifecycle.retire(kid, at, at_once=True)


def load(app: Flask, at: datetime) -> keys.Keyring:
    """Read the keyring. The first reading creates the keys."""
    with app.app_context():
        return keys.load(at)


def signer(app: Flask, use: keys.Use = "access", at: datetime | None = None) -> str:
    """Return the kid of the key that signs, by default now; create it if necessary."""
    return load(app, at or now()).signing[use].kid


def stored_keys(app: Flask, use: keys.Use) -> Sequence[sa.Row[Any]]:
    """Return the rows of the keys of one use, the oldest first."""
    with app.app_context():
        of_use = sa.select(SigningKey.__table__).where(SigningKey.use == use)
        return db.execute_now(of_use.order_by(SigningKey.serial))


def statuses(app: Flask, holder: Client) -> tuple[int, int]:
    """Present both tokens of `holder` to `app`; return the statuses."""
    client = Client(app)
    return client.protected(holder.token).status, client.refresh(holder.cookie).status


def published(app: Flask) -> list[dict[str, str]]:
    """Return the JWK set."""
    response = Client(app).send("GET", "/.well-known/jwks.json")
    assert response.status == 200
    return list(response.json["keys"])


def pem(private: Any, *, password: bytes | None = None, form: str = "PKCS8") -> bytes:
    """Return a private key in PEM."""
    encryption: Any = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    return bytes(
        private.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption)
    )
