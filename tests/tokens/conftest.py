"""Fixtures: a signed-in user, whose tokens the tests forge."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import serialization
from joserfc.jwk import ECKey, OctKey

from tests.conftest import Databases
from tests.support.app import make_app
from tests.support.forge import Issued, Use, issue
from tokenapp import db, keys

SECRETS: Final = {"ACCESS_TOKEN_SECRET": "access " * 6, "REFRESH_TOKEN_SECRET": "refresh " * 6}


@pytest.fixture(scope="module", params=["ES256 access", "HS256 refresh", "HS256 access"])
def issued(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Issued]:
    """Provide a session; secrets from the settings sign its tokens in the last case."""
    yield from _issue(databases, **(SECRETS if request.param == "HS256 access" else {}))


@pytest.fixture
def use(request: pytest.FixtureRequest, issued: Issued) -> Use:
    """Provide the use of the token under test."""
    alg, kind = request.node.callspec.params["issued"].split()
    use: Use = kind
    assert issued.keys[use].alg == alg
    return use


@pytest.fixture(scope="module")
def stored(databases: Databases) -> Iterator[Issued]:
    """Provide a session whose tokens are signed with stored keys.

    The algorithm is ES256 for access tokens and HS256 for refresh tokens.
    """
    yield from _issue(databases)


@pytest.fixture(scope="module")
def of_secrets(databases: Databases) -> Iterator[Issued]:
    """Provide a session whose tokens are signed with secrets from the settings."""
    yield from _issue(databases, **SECRETS)


def other(use: Use) -> Use:
    """Return the other use."""
    return "refresh" if use == "access" else "access"


def each_row(table: dict[str, Any]) -> pytest.MarkDecorator:
    """Run the test for each row of `table`."""
    return pytest.mark.parametrize("row", table.values(), ids=table.keys())


def public_pem(key: keys.Key) -> str:
    """Return the public key in PEM."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    text: bytes = key.public.public_bytes(encoding, form)
    return text.decode()


def joserfc_key(key: keys.Key) -> ECKey | OctKey:
    """Return the key with which joserfc verifies tokens."""
    return ECKey.import_key(public_pem(key)) if key.alg == "ES256" else OctKey.import_key(key.secret)


def _issue(databases: Databases, **settings: str) -> Iterator[Issued]:
    app = make_app(databases("sqlite"), **settings)
    yield issue(app)
    with app.app_context():
        db.db.engine.dispose()
