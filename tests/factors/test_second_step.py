"""Signing in with a password and a second factor."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.authenticator import Authenticator, enrol, pending_of, second_step, stopped_clock
from tests.support.client import Client, claims_of, sign_in
from tokenapp import accounts, errors, sessions


def test_password_alone_gives_neither_token_nor_cookie(app: Flask, authenticator: Authenticator) -> None:
    del authenticator
    response = Client(app).login()
    assert (response.status, response.code, response.cookie) == (401, "second_factor_required", None)
    assert response.json["methods"] == ["totp", "recovery_code"]
    assert response.json["setup"] == []
    assert "accessToken" not in response.json


def test_code_signs_in(app: Flask, authenticator: Authenticator) -> None:
    client = Client(app)
    response = second_step(client, pending_of(app), authenticator.code())
    assert response.status == 200
    assert set(response.json) == {"accessToken", "tokenType", "expiresIn", "message"}
    assert client.protected().status == 200
    assert client.refresh().status == 200


def test_methods_and_level_are_in_the_access_token_and_survive_a_refresh(
    app: Flask, alice: Client, authenticator: Authenticator
) -> None:
    assert alice.token is not None
    assert (claims_of(alice.token)["amr"], claims_of(alice.token)["acr"]) == (["pwd"], "1")
    client = Client(app)
    second_step(client, pending_of(app), authenticator.code())
    assert client.token is not None
    assert claims_of(client.token)["acr"] == "2"
    client.refresh()
    assert (claims_of(client.token)["amr"], claims_of(client.token)["acr"]) == (["pwd", "otp", "mfa"], "2")


def test_second_step_revokes_the_session_of_the_cookie(app: Flask, authenticator: Authenticator) -> None:
    client = Client(app)
    second_step(client, pending_of(app), authenticator.code())
    former = Client(app)
    former.cookie = client.cookie
    second_step(client, pending_of(app), authenticator.recovery_codes[0], "recovery_code")
    assert former.refresh().code == "refresh_token_revoked"
    assert client.refresh().status == 200


def test_sign_in_that_began_before_the_first_factor_opens_no_session(app: Flask, alice: Client) -> None:
    with app.app_context():
        before = accounts.find("alice")
    enrol(alice)
    with app.app_context(), pytest.raises(errors.InvalidCredentials):
        sessions.open_session(before, datetime.now(UTC))


def test_recovery_code_signs_in_once(app: Flask, authenticator: Authenticator) -> None:
    code = authenticator.recovery_codes[0]
    assert second_step(Client(app), pending_of(app), code, "recovery_code").status == 200
    assert second_step(Client(app), pending_of(app), code, "recovery_code").code == "invalid_code"


def test_pending_sign_in_works_once(app: Flask, authenticator: Authenticator) -> None:
    pending = pending_of(app)
    assert second_step(Client(app), pending, authenticator.code()).status == 200
    code = authenticator.recovery_codes[0]
    assert second_step(Client(app), pending, code, "recovery_code").code == "sign_in_expired"
    assert second_step(Client(app), pending_of(app), code, "recovery_code").status == 200


def test_pending_sign_in_survives_a_wrong_code(app: Flask, authenticator: Authenticator) -> None:
    pending = pending_of(app)
    assert second_step(Client(app), pending, authenticator.wrong).code == "invalid_code"
    assert second_step(Client(app), pending, authenticator.code()).status == 200


@pytest.mark.parametrize(("seconds", "code"), [(299, None), (301, "sign_in_expired")])
def test_pending_sign_in_is_valid_for_five_minutes(
    app: Flask, authenticator: Authenticator, seconds: int, code: str | None
) -> None:
    moment = datetime.now(UTC)
    with time_machine.travel(moment, tick=False):
        pending = pending_of(app)
    with time_machine.travel(moment + timedelta(seconds=seconds), tick=False):
        response = second_step(Client(app), pending, authenticator.code())
    assert response.json.get("code") == code


def test_recovery_code_of_another_user_is_wrong(app: Flask, authenticator: Authenticator) -> None:
    create_user(app, "bob")
    other = enrol(sign_in(app, "bob"))
    del authenticator
    code = other.recovery_codes[0]
    assert second_step(Client(app), pending_of(app), code, "recovery_code").code == "invalid_code"


def test_account_without_second_factor_signs_in_with_the_password(app: Flask, alice: Client) -> None:
    del alice
    assert Client(app).login(password=PASSWORD).status == 200


def test_wrong_recovery_codes_count(app: Flask, authenticator: Authenticator) -> None:
    del authenticator
    wrong = "aaaa-bbbb-cccc-dddd"
    with stopped_clock():
        statuses = [second_step(Client(app), pending_of(app), wrong, "recovery_code").status for _ in range(6)]
    assert statuses == [401] * 5 + [429]
