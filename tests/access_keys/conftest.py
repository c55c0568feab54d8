"""An application with a user who has an access key."""

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.support.access_keys import create_key
from tests.support.app import application, create_user
from tests.support.client import Client, sign_in


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Return an application with alice, whose revocation list is hardly cached."""
    with application(database_url, TOKENAPP_REVOCATION_DELAY="0.05") as app:
        create_user(app)
        yield app


@pytest.fixture
def alice(app: Flask) -> Client:
    """Return a client that is signed in."""
    return sign_in(app)


@pytest.fixture
def key(alice: Client) -> str:
    """Return an access key of alice."""
    return str(create_key(alice)["key"])
