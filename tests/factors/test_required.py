"""A service that requires a second factor of everyone."""

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.support.app import application, create_user
from tests.support.authenticator import Authenticator, pending_of, second_step
from tests.support.client import Client, claims_of
from tests.support.commandline import can_sign_in


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Return an application that requires second factors, with the user alice."""
    with application(database_url, TOKENAPP_SECOND_FACTOR="required") as app:
        create_user(app)
        yield app


def start(app: Flask, pending: str) -> Authenticator:
    """Start to set up an authenticator app with a pending sign-in."""
    response = Client(app).send("POST", "/api/login/setup/totp", payload={"pending": pending})
    assert response.status == 200, response.body
    return Authenticator(response.json["secret"], response.json["id"])


def test_password_leads_to_the_setup(app: Flask) -> None:
    response = Client(app).login()
    assert (response.status, response.code, response.cookie) == (401, "second_factor_required", None)
    assert (response.json["methods"], response.json["setup"]) == ([], ["totp", "passkey"])


def test_code_of_the_new_app_signs_in_and_gives_recovery_codes(app: Flask) -> None:
    pending = pending_of(app)
    authenticator, client = start(app, pending), Client(app)
    response = second_step(client, pending, authenticator.code(0))
    assert response.status == 200
    assert len(response.json["recoveryCodes"]) == 10
    assert client.token is not None
    assert claims_of(client.token)["acr"] == "2"
    assert second_step(Client(app), pending_of(app), authenticator.code()).status == 200


def test_setup_needs_a_code(app: Flask) -> None:
    pending = pending_of(app)
    authenticator = start(app, pending)
    assert second_step(Client(app), pending, authenticator.wrong).code == "invalid_code"
    assert second_step(Client(app), pending, "aaaa" * 4, "recovery_code").code == "invalid_code"
    assert not can_sign_in(app)


def test_setup_ends_other_pending_sign_ins(app: Flask) -> None:
    pending, other = pending_of(app), pending_of(app)
    authenticator = start(app, pending)
    second_step(Client(app), pending, authenticator.code(0))
    assert second_step(Client(app), other, authenticator.code()).code == "sign_in_expired"


def test_pending_sign_in_of_a_user_with_a_factor_sets_up_none(app: Flask) -> None:
    pending = pending_of(app)
    second_step(Client(app), pending, start(app, pending).code(0))
    response = Client(app).send("POST", "/api/login/setup/totp", payload={"pending": pending_of(app)})
    assert response.code == "sign_in_expired"


def test_last_factor_cannot_be_removed(app: Flask) -> None:
    pending = pending_of(app)
    authenticator, client = start(app, pending), Client(app)
    second_step(client, pending, authenticator.code())
    response = client.call("DELETE", f"/api/me/factors/{authenticator.id}")
    assert (response.status, response.code) == (409, "last_way_to_sign_in")
    assert [each["id"] for each in client.call("GET", "/api/me/factors").json["items"]] == [authenticator.id]
