"""The cost of a request in function calls.

Unlike the time of a request, it does not depend on the machine.
"""

import sys

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import create_user, make_app
from tests.support.calls import Calls, count_calls
from tests.support.client import Client, sign_in


@pytest.fixture
def client(databases: Databases) -> Client:
    """Return a signed-in client on SQLite, whose driver makes few calls."""
    app = make_app(databases("sqlite"), TOKENAPP_REFRESH_GRACE="0")
    create_user(app)
    return sign_in(app)


def protected_request(client: Client) -> Calls:
    """Return the calls of a protected request with a token that was verified before."""
    assert isinstance(client.target, Flask)
    assert client.protected().status == 200
    calls = count_calls(client.target, "GET", "/api/protected", {"Authorization": f"Bearer {client.token}"})
    assert calls.status == "200 OK"
    return calls


def rotation(client: Client) -> Calls:
    """Return the calls of a refresh that rotates the token."""
    assert isinstance(client.target, Flask)
    assert client.refresh().status == 200
    calls = count_calls(client.target, "POST", "/api/token", {"Cookie": f"refreshToken={client.cookie}"})
    assert calls.status == "200 OK"
    return calls


def test_a_protected_request_stays_within_its_budget(client: Client) -> None:
    assert protected_request(client).total <= 700


def test_a_rotation_stays_within_its_budget(client: Client) -> None:
    assert rotation(client).total <= (1150 if sys.version_info < (3, 12) else 1200)  # later ones call more of their own


def test_a_protected_request_stays_within_its_budget_of_own_calls(client: Client) -> None:
    calls = protected_request(client)
    assert len(calls.files) <= 30
    assert len({*calls.files}) <= 10
    assert calls.moves <= 18


def test_a_rotation_stays_within_its_budget_of_own_calls(client: Client) -> None:
    calls = rotation(client)
    assert len(calls.files) <= 90
    assert len({*calls.files}) <= 14
    assert calls.moves <= 40
