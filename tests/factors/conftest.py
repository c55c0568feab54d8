"""A user with an authenticator app."""

import pytest
from flask import Flask

from tests.support.app import create_user
from tests.support.authenticator import Authenticator, enrol
from tests.support.client import Client, sign_in


@pytest.fixture
def alice(app: Flask) -> Client:
    """Return a client of alice, who has no second factor, that is signed in."""
    create_user(app)
    return sign_in(app)


@pytest.fixture
def authenticator(alice: Client) -> Authenticator:
    """Return alice's authenticator app. Her session is from before it was set up."""
    return enrol(alice)
