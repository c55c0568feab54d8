"""Passkeys as the second step, for step-up, and beside other ways to sign in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.support.app import PASSWORD, create_user
from tests.support.authenticator import enrol, pending_of, second_step
from tests.support.client import Client, Response, claims_of, sign_in
from tests.support.commandline import run, run_json
from tests.support.security_keys import (
    BE,
    BS,
    UP,
    UV,
    Authenticator,
    creation_options,
    register,
    request_options,
    sign_in_with,
)
from tokenapp import accounts, audit
from tokenapp.db import execute_now
from tokenapp.factor_models import Passkey, SpentChallenge
from tokenapp.factors import enrolment
from tokenapp.models import User


@pytest.fixture
def device(alice: Client) -> Authenticator:
    """Give a passkey of alice."""
    device = Authenticator()
    assert register(alice, device).status == 200
    return device


def take_second_step(client: Client, pending: str, credential: Any) -> Response:
    payload = {"pending": pending, "method": "passkey", "credential": credential}
    return client.call("POST", "/api/login/second", bearer=None, payload=payload)


def step_up(client: Client, device: Authenticator) -> Response:
    payload = {"method": "passkey", "credential": device.get(request_options(client))}
    return client.call("POST", "/api/reauthenticate", payload=payload, cookie=client.cookie)


def test_password_of_a_user_with_a_passkey_leads_to_a_second_step(app: Flask, device: Authenticator) -> None:
    response = Client(app).login()
    assert (response.code, response.cookie) == ("second_factor_required", None)
    assert response.json["methods"] == ["passkey", "recovery_code"]
    client = Client(app)
    second = take_second_step(client, response.json["pending"], device.get(request_options(client)))
    assert second.status == 200
    claims = claims_of(second.json["accessToken"])
    assert (claims["acr"], claims["amr"]) == ("2", ["pwd", "swk", "user", "mfa"])


def test_passkey_without_user_verification_is_enough_for_the_second_step_only(
    app: Flask, device: Authenticator
) -> None:
    device.flags = UP | BE | BS
    client = Client(app)
    assert sign_in_with(client, device).code == "passkey_invalid"
    second = take_second_step(client, pending_of(app), device.get(request_options(client)))
    assert claims_of(second.json["accessToken"])["amr"] == ["pwd", "swk", "mfa"]


def test_recovery_code_signs_in_without_the_passkey(app: Flask, alice: Client) -> None:
    codes = register(alice, Authenticator()).json["recoveryCodes"]
    assert second_step(Client(app), pending_of(app), codes[0], "recovery_code").status == 200


def test_missing_credential_in_the_second_step_is_invalid(app: Flask, device: Authenticator) -> None:
    del device
    assert take_second_step(Client(app), pending_of(app), None).code == "passkey_invalid"


def test_passkey_of_another_user_is_rejected_in_the_second_step(app: Flask, device: Authenticator) -> None:
    del device
    create_user(app, "ben")
    other = Authenticator()
    register(sign_in(app, "ben"), other)
    client = Client(app)
    response = take_second_step(client, pending_of(app), other.get(request_options(client)))
    assert response.code == "passkey_invalid"
    with app.app_context():
        (failure,) = audit.list_events(kind="factor_failed")
    assert failure.reason == "passkey: of another user"


def test_signature_is_for_one_second_step(app: Flask, device: Authenticator) -> None:
    client = Client(app)
    credential = device.get(request_options(client))
    assert take_second_step(client, pending_of(app), credential).status == 200
    assert take_second_step(client, pending_of(app), credential).code == "passkey_invalid"


def test_counter_that_goes_back_is_rejected_in_the_second_step(app: Flask, alice: Client) -> None:
    device = Authenticator(flags=UP | UV, counter=9)
    register(alice, device)
    device.counter = 3
    response = take_second_step(Client(app), pending_of(app), device.get(request_options(alice)))
    assert response.code == "passkey_invalid"
    with app.app_context():
        assert [each.reason for each in audit.list_events(kind="passkey_counter")] == ["bound to a device: rejected"]


def test_passkey_makes_an_old_session_recent_and_raises_its_level(alice: Client, device: Authenticator) -> None:
    assert alice.call("POST", "/api/me/recovery-codes").code == "reauthentication_required"
    assert step_up(alice, device).status == 200
    assert alice.token is not None
    assert claims_of(alice.token)["acr"] == "2"
    assert alice.call("POST", "/api/me/recovery-codes").status == 200


@pytest.mark.parametrize("method", ["totp", "recovery_code", "passkey"])
def test_factor_that_was_used_for_a_step_up_is_used_up(app: Flask, alice: Client, method: str) -> None:
    codes = enrol(alice)
    client, device = Client(app), Authenticator()
    second_step(client, pending_of(app), codes.recovery_codes[0], "recovery_code")
    register(client, device)
    code = codes.recovery_codes[1] if method == "recovery_code" else codes.code()
    credential = device.get(request_options(client)) if method == "passkey" else None
    payload = {"method": method, "code": code, "credential": credential}
    assert alice.call("POST", "/api/reauthenticate", payload=payload).status == 200
    assert alice.call("POST", "/api/reauthenticate", payload=payload).status == 401
    payload["pending"] = pending_of(app)
    assert Client(app).send("POST", "/api/login/second", payload=payload).status == 401


@pytest.mark.parametrize("change", ["options", "add", "delete"])
def test_passkeys_change_only_within_five_minutes_of_the_sign_in(
    alice: Client, device: Authenticator, change: str
) -> None:
    sign_in_with(alice, device)
    credential = Authenticator().create(creation_options(alice))
    passkey_id = alice.call("GET", "/api/me/passkeys").json["passkeys"][0]["id"]
    method, path, payload = {
        "options": ("POST", "/api/me/passkeys/options", None),
        "add": ("POST", "/api/me/passkeys", {"credential": credential}),
        "delete": ("DELETE", f"/api/me/passkeys/{passkey_id}", None),
    }[change]
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=301)):
        assert alice.call(method, path, payload=payload).code == "reauthentication_required"
    assert alice.call(method, path, payload=payload).status == 200


def test_session_of_the_password_alone_adds_no_second_passkey(alice: Client) -> None:
    credential = Authenticator().create(creation_options(alice))
    register(alice, Authenticator())
    response = alice.call("POST", "/api/me/passkeys", payload={"credential": credential})
    assert response.code == "reauthentication_required"


def test_user_without_a_password_cannot_delete_the_last_passkey_beside_an_app(app: Flask, alice: Client) -> None:
    codes = enrol(alice)
    client, device = Client(app), Authenticator()
    second_step(client, pending_of(app), codes.code())
    passkey_id = register(client, device).json["passkey"]["id"]
    with app.app_context():
        execute_now(sa.update(User).values(password_hash="", hash_kind=""))
    sign_in_with(client, device)
    response = client.call("DELETE", f"/api/me/passkeys/{passkey_id}")
    assert response.code == "last_way_to_sign_in"


def test_deleted_user_leaves_no_passkey(app: Flask, device: Authenticator) -> None:
    with app.app_context():
        accounts.delete(accounts.find("alice"), datetime.now(UTC))
        assert execute_now(sa.select(Passkey.id)) == []
    assert sign_in_with(Client(app), device).code == "passkey_unknown"


def test_reset_of_the_factors_deletes_passkeys(app: Flask, device: Authenticator) -> None:
    with app.app_context():
        enrolment.reset(accounts.find("alice"), datetime.now(UTC))
    assert sign_in_with(Client(app), device).code == "passkey_unknown"
    assert Client(app).login(password=PASSWORD).status == 200


def test_doctor_reports_passkeys_of_another_domain(app: Flask, device: Authenticator) -> None:
    del device
    with app.app_context():
        execute_now(sa.update(Passkey).values(rp_id="example.com"))
    found = {each["subject"]: each for each in run_json(app, "doctor", code=2)}
    assert found["TOKENAPP_RP_ID"]["problem"] == "1 passkeys are for example.com, and the service is for localhost"


def test_passkey_of_another_domain_is_not_offered_and_is_no_way_to_sign_in(app: Flask, alice: Client) -> None:
    device = Authenticator()
    register(alice, device)
    sign_in_with(alice, device)
    other = register(alice, Authenticator()).json["passkey"]["id"]
    codes = enrol(alice)
    with app.app_context():
        execute_now(sa.update(Passkey).values(rp_id="example.com"))
    assert Client(app).login().json["methods"] == ["totp", "recovery_code"]
    assert alice.call("DELETE", f"/api/me/factors/{codes.id}").code == "last_way_to_sign_in"
    assert alice.call("DELETE", f"/api/me/passkeys/{other}").status == 200
    for each in alice.call("GET", "/api/me/passkeys").json["passkeys"]:
        assert alice.call("DELETE", f"/api/me/passkeys/{each['id']}").status == 200
    assert alice.call("DELETE", f"/api/me/factors/{codes.id}").status == 204
    assert Client(app).login().status == 200


def test_passkey_of_another_domain_is_no_spare_for_a_user_without_a_password(app: Flask, alice: Client) -> None:
    devices = [Authenticator(), Authenticator()]
    for device in devices:
        register(alice, device)
        sign_in_with(alice, devices[0])
    first, second = (each["id"] for each in alice.call("GET", "/api/me/passkeys").json["passkeys"])
    with app.app_context():
        execute_now(sa.update(Passkey).where(Passkey.id == second).values(rp_id="example.com"))
        execute_now(sa.update(User).values(password_hash="", hash_kind=""))
    assert alice.call("DELETE", f"/api/me/passkeys/{first}").code == "last_way_to_sign_in"


def test_expired_challenges_are_pruned(app: Flask, device: Authenticator) -> None:
    del device
    run(app, "events", "prune", "--older-than", "30d", "--yes")
    with app.app_context():
        assert len(execute_now(sa.select(SpentChallenge.digest))) == 1
        execute_now(sa.update(SpentChallenge).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    run(app, "events", "prune", "--older-than", "30d", "--yes")
    with app.app_context():
        assert execute_now(sa.select(SpentChallenge.digest)) == []
