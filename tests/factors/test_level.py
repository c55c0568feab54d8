"""What a session from before the first factor can no longer do."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from tests.support.app import PASSWORD, application
from tests.support.authenticator import Authenticator, pending_of, second_step
from tests.support.client import Client, sign_in
from tests.support.commandline import NEW_PASSWORD
from tests.support.security_keys import Authenticator as SecurityKey
from tests.support.security_keys import register, sign_in_with

PROTECTED: dict[str, Any] = {
    "POST /api/me/email": {"email": "new@example.com"},
    "DELETE /api/me": None,
    "POST /api/me/access-keys": {"name": "nightly build"},
    "PUT /api/me/password": {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD},
    "POST /api/me/factors/totp": None,
    "POST /api/me/factors/totp/unknown/confirm": {"code": "123456"},
    "DELETE /api/me/factors/unknown": None,
    "POST /api/me/recovery-codes": None,
    "POST /api/me/passkeys/options": None,
    "POST /api/me/passkeys": {"credential": {}, "name": "A phone"},
    "DELETE /api/me/passkeys/unknown": None,
}
OF_FIFTEEN_MINUTES = ("POST /api/me/email", "POST /api/me/access-keys", "DELETE /api/me")


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Return an application that can mail, so that it has all routes."""
    with application(database_url, TOKENAPP_SMTP_URL="smtp://127.0.0.1:1") as app:
        yield app


def change(client: Client, what: str) -> Any:
    """Request a change, and return the response."""
    return client.call(*what.split(), payload=PROTECTED[what])


@pytest.mark.parametrize("what", PROTECTED)
def test_session_of_before_the_app_is_challenged(alice: Client, authenticator: Authenticator, what: str) -> None:
    del authenticator
    response = change(alice, what)
    assert (response.status, response.code) == (401, "reauthentication_required")
    challenge = response.header("WWW-Authenticate") or ""
    assert 'error="insufficient_user_authentication", acr_values="2"' in challenge


@pytest.mark.parametrize("what", OF_FIFTEEN_MINUTES)
def test_factor_added_to_the_session_is_enough(alice: Client, authenticator: Authenticator, what: str) -> None:
    alice.call("POST", "/api/reauthenticate", payload={"method": "totp", "code": authenticator.code()})
    assert change(alice, what).status in {200, 202, 204}


@pytest.mark.parametrize("what", OF_FIFTEEN_MINUTES)
def test_password_is_enough_without_a_factor(alice: Client, what: str) -> None:
    assert change(alice, what).status in {200, 202, 204}


@pytest.mark.parametrize("what", OF_FIFTEEN_MINUTES)
def test_session_of_before_the_passkey_is_challenged(app: Flask, alice: Client, what: str) -> None:
    weaker = sign_in(app)
    key = SecurityKey()
    assert register(alice, key).status == 200
    assert change(weaker, what).code == "reauthentication_required"
    assert sign_in_with(weaker, key).status == 200
    assert change(weaker, what).status in {200, 202, 204}


def test_session_of_before_the_app_signs_out_devices(app: Flask, alice: Client, authenticator: Authenticator) -> None:
    other = Client(app)
    assert second_step(other, pending_of(app), authenticator.code()).status == 200
    assert alice.call("DELETE", f"/api/sessions/{other.sid}").status == 204
    assert other.refresh().code == "refresh_token_revoked"
