"""A user with an authenticator app."""

import pytest
from flask import Flask

from tests.support.app import create_user
from tests.support.authenticator import Authenticator, enrol
from tests.support.client import Client, sign_in
from tokenapp.factors import totp, webauthn
from tokenapp.sessions import device_names

# Their libraries are loaded when they are first used. On a slow machine that can take longer than a request may.
LOADED = (totp, webauthn, device_names.describe("Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"))


@pytest.fixture
def alice(app: Flask) -> Client:
    """Return a client of alice, who has no second factor, that is signed in."""
    create_user(app)
    return sign_in(app)


@pytest.fixture
def authenticator(alice: Client) -> Authenticator:
    """Return alice's authenticator app. Her session is from before it was set up."""
    return enrol(alice)
