"""Adding and removing second factors, and what ends a pending sign-in."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.authenticator import Authenticator, confirm, enrol, pending_of, second_step, stopped_clock
from tests.support.client import Client, claims_of, sign_in
from tests.support.commandline import NEW_PASSWORD, can_sign_in, run
from tokenapp.throttle import lockout

SHORT = "vK9#xq!L"
CHANGES = ("POST /api/me/factors/totp", "POST /api/me/recovery-codes", "DELETE /api/me/factors/unknown")


def signed_in(app: Flask, authenticator: Authenticator) -> Client:
    """Return a client that signed in with both factors."""
    client = Client(app)
    assert second_step(client, pending_of(app), authenticator.code()).status == 200
    return client


def test_secret_does_not_count_before_it_is_confirmed(app: Flask, alice: Client) -> None:
    assert alice.call("POST", "/api/me/factors/totp").status == 200
    assert alice.call("GET", "/api/me/factors").json == {"items": [], "recoveryCodesLeft": 0, "required": False}
    assert can_sign_in(app)


def test_confirmation_uses_its_code_up(app: Flask, alice: Client) -> None:
    started = alice.call("POST", "/api/me/factors/totp").json
    code = Authenticator(started["secret"]).code()
    assert confirm(alice, started["id"], code).status == 200
    assert second_step(Client(app), pending_of(app), code).code == "invalid_code"


def test_confirmation_gives_ten_recovery_codes_of_80_bits(authenticator: Authenticator) -> None:
    codes = [code.replace("-", "") for code in authenticator.recovery_codes]
    assert len(set(codes)) == 10
    assert all(len(code) == 16 for code in codes)  # of 5 bits each


def test_wrong_code_does_not_confirm(app: Flask, alice: Client) -> None:
    started = alice.call("POST", "/api/me/factors/totp").json
    wrong = Authenticator(started["secret"]).wrong
    assert confirm(alice, started["id"], wrong).code == "invalid_code"
    assert can_sign_in(app)


def test_second_app_gives_no_recovery_codes(app: Flask, authenticator: Authenticator) -> None:
    assert enrol(signed_in(app, authenticator)).recovery_codes == []


def test_qr_code_has_no_styles(alice: Client) -> None:
    started = alice.call("POST", "/api/me/factors/totp").json
    assert started["qrSvg"].startswith("<svg ")
    assert "style" not in started["qrSvg"]
    assert started["secret"] in started["uri"]


def test_longest_user_name_fits_into_the_qr_code(app: Flask) -> None:
    name = "\u6f22" * 254
    create_user(app, name)
    assert len(enrol(sign_in(app, name)).recovery_codes) == 10


def test_without_factors_the_password_signs_in_again(app: Flask, authenticator: Authenticator) -> None:
    client = signed_in(app, authenticator)
    assert client.call("DELETE", f"/api/me/factors/{authenticator.id}").status == 204
    assert can_sign_in(app)
    assert client.call("GET", "/api/me/factors").json["recoveryCodesLeft"] == 0


def test_change_needs_a_sign_in_of_five_minutes_ago(app: Flask, authenticator: Authenticator) -> None:
    client = signed_in(app, authenticator)
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=302)):
        for change in CHANGES:
            response = client.call(*change.split())
            assert (response.status, response.code) == (401, "reauthentication_required"), change
            assert 'max_age="300"' in (response.header("WWW-Authenticate") or "")


def test_step_up_adds_the_factor_to_the_session(alice: Client, authenticator: Authenticator) -> None:
    payload = {"method": "totp", "code": authenticator.code()}
    assert alice.call("POST", "/api/reauthenticate", payload=payload).status == 200
    assert alice.token is not None
    assert (claims_of(alice.token)["amr"], claims_of(alice.token)["acr"]) == (["pwd", "otp", "mfa"], "2")
    assert alice.call("DELETE", f"/api/me/factors/{authenticator.id}").status == 204


def test_password_alone_does_not_step_up(alice: Client, authenticator: Authenticator) -> None:
    response = alice.call("POST", "/api/reauthenticate", payload={"password": PASSWORD})
    assert (response.status, response.code, response.cookie) == (401, "second_factor_required", None)
    assert second_step(alice, response.json["pending"], authenticator.code()).status == 200


def test_wrong_codes_in_a_session_end_it(app: Flask, authenticator: Authenticator) -> None:
    client = signed_in(app, authenticator)
    moment = datetime.now(UTC)
    for number in range(20):
        with time_machine.travel(moment + timedelta(seconds=number * 5)):
            client.refresh()
            client.call("POST", "/api/reauthenticate", payload={"method": "recovery_code", "code": "a" * 16})
        moment += timedelta(minutes=61) if number > 3 else timedelta()
    assert client.refresh().code == "refresh_token_revoked"


def test_right_password_does_not_clear_the_wrong_codes_of_a_session(app: Flask, authenticator: Authenticator) -> None:
    client = signed_in(app, authenticator)
    statuses = []
    with stopped_clock():
        for _ in range(6):
            wrong = {"method": "totp", "code": authenticator.wrong}
            statuses.append(client.call("POST", "/api/reauthenticate", payload=wrong).status)
            right = client.call("POST", "/api/reauthenticate", payload={"password": PASSWORD})
            assert right.code == "second_factor_required"
    assert statuses == [401] * 5 + [429]


def test_weaker_session_does_not_change_the_password(alice: Client, authenticator: Authenticator) -> None:
    del authenticator
    payload = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}
    assert alice.call("PUT", "/api/me/password", payload=payload).code == "reauthentication_required"


@pytest.mark.parametrize("change", ["disable", "password", "factor", "removal", "lock"])
def test_change_of_the_account_ends_a_pending_sign_in(app: Flask, authenticator: Authenticator, change: str) -> None:
    pending = pending_of(app)
    if change == "disable":
        run(app, "users", "disable", "alice")
        run(app, "users", "enable", "alice")
    elif change == "password":
        run(app, "users", "set-password", "alice", stdin=f"{NEW_PASSWORD}\n")
    elif change == "lock":
        moment = datetime.now(UTC)
        with app.app_context():
            for number in range(lockout.LOCK_AFTER - 1):
                lockout.count_attempt("password", "alice", moment + timedelta(hours=number))
        with time_machine.travel(moment + timedelta(hours=lockout.LOCK_AFTER)):
            assert Client(app).login(password="a wrong password").status == 401
    else:
        client = Client(app)
        second_step(client, pending_of(app), authenticator.recovery_codes[0], "recovery_code")
        if change == "factor":
            enrol(client)
        else:
            client.call("DELETE", f"/api/me/factors/{authenticator.id}")
    assert second_step(Client(app), pending, authenticator.code()).code == "sign_in_expired"


def test_old_session_with_the_password_alone_does_not_become_recent(app: Flask, authenticator: Authenticator) -> None:
    client = signed_in(app, authenticator)
    payload = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=302)):
        assert client.call("PUT", "/api/me/password", payload=payload).code == "reauthentication_required"
        factor = {"method": "recovery_code", "code": authenticator.recovery_codes[0]}
        assert client.call("POST", "/api/reauthenticate", payload=factor).status == 200
        assert client.call("PUT", "/api/me/password", payload=payload).status == 204


def test_old_session_without_a_factor_changes_the_password(alice: Client) -> None:
    payload = {"currentPassword": PASSWORD, "newPassword": NEW_PASSWORD}
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=302)):
        assert alice.call("PUT", "/api/me/password", payload=payload).status == 204


def test_password_can_be_shorter_with_a_second_factor(app: Flask, alice: Client) -> None:
    short = {"currentPassword": PASSWORD, "newPassword": SHORT}
    assert alice.call("PUT", "/api/me/password", payload=short).code == "password_rejected"
    client = signed_in(app, enrol(alice))
    assert client.call("PUT", "/api/me/password", payload=short).status == 204


def test_last_factor_stays_while_the_password_is_short(app: Flask, authenticator: Authenticator) -> None:
    client = signed_in(app, authenticator)
    client.call("PUT", "/api/me/password", payload={"currentPassword": PASSWORD, "newPassword": SHORT})
    client.refresh()
    response = client.call("DELETE", f"/api/me/factors/{authenticator.id}")
    assert (response.status, response.code) == (409, "last_way_to_sign_in")


def test_reset_of_the_factors_makes_a_short_password_temporary(app: Flask, authenticator: Authenticator) -> None:
    client = signed_in(app, authenticator)
    client.call("PUT", "/api/me/password", payload={"currentPassword": PASSWORD, "newPassword": SHORT})
    run(app, "users", "reset-factors", "alice", "--yes")
    assert Client(app).login(password=SHORT).code == "password_change_required"
