"""Passkeys: added, used to sign in, listed, renamed, deleted."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases
from tests.support.app import ROOT, create_user, environment, make_app
from tests.support.client import Client, claims_of, sign_in
from tests.support.concurrency import at_once
from tests.support.security_keys import (
    BE,
    BS,
    UP,
    UV,
    Authenticator,
    creation_options,
    decode,
    passkey_login,
    register,
    request_options,
    sign_in_with,
)
from tests.support.settings import development, problems_of, production
from tokenapp import audit
from tokenapp.db import execute_now
from tokenapp.factor_models import RecoveryCode
from tokenapp.models import User


def user_id(client: Client) -> str:
    assert client.token is not None
    return str(claims_of(client.token)["sub"])


def reasons(app: Flask, kind: str) -> list[str | None]:
    with app.app_context():
        return [event.reason for event in audit.list_events(kind=kind)]


def remove_password(app: Flask) -> None:
    with app.app_context():
        execute_now(sa.update(User).values(password_hash="", hash_kind=""))


def test_options_ask_for_a_discoverable_credential_and_user_verification(alice: Client) -> None:
    options = creation_options(alice)["publicKey"]
    assert options["rp"] == {"id": "localhost", "name": "tokenapp"}
    assert decode(options["user"]["id"]).decode() == user_id(alice)
    assert (options["user"]["name"], options["user"]["displayName"]) == ("alice", "alice")
    assert options["authenticatorSelection"] == {
        "residentKey": "required",
        "requireResidentKey": True,
        "userVerification": "required",
    }
    assert options["attestation"] == "none"
    assert {each["alg"] for each in options["pubKeyCredParams"]} == {-7, -8, -257}
    assert options["excludeCredentials"] == []


def test_passkey_signs_in_without_a_name(app: Flask, alice: Client) -> None:
    device = Authenticator()
    assert register(alice, device).status == 200
    other = Client(app)
    response = sign_in_with(other, device)
    assert response.status == 200
    assert response.json["message"] == "Logged in successfully."
    claims = claims_of(response.json["accessToken"])
    assert (claims["sub"], claims["acr"], claims["amr"]) == (user_id(alice), "2", ["swk", "user", "mfa"])
    assert other.protected().status == 200
    assert other.refresh().status == 200


def test_passkey_that_is_bound_to_a_device_is_a_hardware_key(app: Flask, alice: Client) -> None:
    device = Authenticator(flags=UP | UV)
    register(alice, device)
    response = sign_in_with(Client(app), device)
    assert claims_of(response.json["accessToken"])["amr"] == ["hwk", "user", "mfa"]


def test_user_without_a_password_signs_in_with_a_passkey(app: Flask, alice: Client) -> None:
    device = Authenticator()
    register(alice, device)
    remove_password(app)
    assert sign_in_with(Client(app), device).status == 200


def test_sign_in_revokes_the_session_of_the_cookie(app: Flask, alice: Client) -> None:
    device = Authenticator()
    register(alice, device)
    other = Client(app)
    sign_in_with(other, device)
    credential = device.get(request_options(other))
    passkey_login(Client(app), credential, cookie=other.cookie)
    assert other.refresh().status == 403


def test_page_of_another_site_cannot_sign_in(app: Flask, alice: Client) -> None:
    device = Authenticator()
    register(alice, device)
    credential = device.get(request_options(alice))
    response = passkey_login(Client(app), credential, headers={"Sec-Fetch-Site": "cross-site"})
    assert response.code == "cross_site_request"


def test_list_has_names_and_uses(app: Flask, alice: Client) -> None:
    device = Authenticator()
    added = register(alice, device).json["passkey"]
    sign_in_with(Client(app), device)
    (listed,) = alice.call("GET", "/api/me/passkeys").json["passkeys"]
    assert (listed["id"], listed["name"], listed["synced"]) == (added["id"], "A phone", True)
    assert added["lastUsedAt"] is None
    assert listed["lastUsedAt"] is not None


def test_passkey_without_a_name_is_named_after_the_browser(alice: Client) -> None:
    credential = Authenticator().create(creation_options(alice))
    agent = "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"
    added = alice.call(
        "POST", "/api/me/passkeys", payload={"credential": credential}, headers={"User-Agent": agent}
    ).json["passkey"]
    assert added["name"] == "Firefox on Windows"


def test_passkey_is_renamed(alice: Client) -> None:
    passkey_id = register(alice, Authenticator()).json["passkey"]["id"]
    renamed = alice.call("PATCH", f"/api/me/passkeys/{passkey_id}", payload={"name": "Key ring"})
    assert renamed.json["name"] == "Key ring"
    assert alice.call("GET", "/api/me/passkeys").json["passkeys"][0]["name"] == "Key ring"


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_passkey_of_another_user_is_not_found(app: Flask, alice: Client, method: str) -> None:
    passkey_id = register(alice, Authenticator()).json["passkey"]["id"]
    create_user(app, "ben")
    ben = sign_in(app, "ben")
    response = ben.call(method, f"/api/me/passkeys/{passkey_id}", payload={"name": "mine"})
    assert response.problem == (404, "passkey_not_found", "Passkey not found.")
    assert len(alice.call("GET", "/api/me/passkeys").json["passkeys"]) == 1


def test_known_passkeys_are_excluded_from_new_ones(alice: Client) -> None:
    device = Authenticator()
    register(alice, device)
    sign_in_with(alice, device)
    (excluded,) = creation_options(alice)["publicKey"]["excludeCredentials"]
    assert decode(excluded["id"]) == device.credential_id
    assert excluded["transports"] == ["internal", "hybrid"]


def test_deleted_passkey_no_longer_signs_in_and_is_reported_as_unknown(app: Flask, alice: Client) -> None:
    device, other = Authenticator(), Authenticator()
    passkey_id = register(alice, device).json["passkey"]["id"]
    sign_in_with(alice, device)
    register(alice, other)
    deleted = alice.call("DELETE", f"/api/me/passkeys/{passkey_id}")
    assert deleted.status == 200
    signal = deleted.json["signal"]
    assert [decode(each) for each in signal["allAcceptedCredentialIds"]] == [other.credential_id]
    assert (signal["rpId"], decode(signal["userId"]).decode()) == ("localhost", user_id(alice))
    assert (signal["name"], signal["displayName"]) == ("alice", "alice")
    assert sign_in_with(Client(app), device).code == "passkey_unknown"
    assert sign_in_with(Client(app), other).status == 200


def test_adding_and_deleting_are_audit_events(app: Flask, alice: Client) -> None:
    device = Authenticator()
    passkey_id = register(alice, device).json["passkey"]["id"]
    sign_in_with(alice, device)
    alice.call("DELETE", f"/api/me/passkeys/{passkey_id}")
    assert (reasons(app, "factor_added"), reasons(app, "factor_removed")) == (["passkey"], ["passkey"])


def test_disabled_user_cannot_sign_in(app: Flask, alice: Client) -> None:
    device = Authenticator()
    register(alice, device)
    with app.app_context():
        execute_now(sa.update(User).values(disabled_at=User.created_at))
    assert sign_in_with(Client(app), device).code == "passkey_invalid"


def test_last_passkeys_of_a_user_without_a_password_cannot_be_deleted(app: Flask, alice: Client) -> None:
    devices = [Authenticator(), Authenticator(), Authenticator()]
    for device in devices:
        assert register(alice, device).status == 200
        assert sign_in_with(alice, device).status == 200
    remove_password(app)
    with app.app_context():
        execute_now(sa.delete(RecoveryCode))
    ids = [each["id"] for each in alice.call("GET", "/api/me/passkeys").json["passkeys"]]
    assert alice.call("DELETE", f"/api/me/passkeys/{ids[0]}").status == 200
    assert alice.call("DELETE", f"/api/me/passkeys/{ids[1]}").code == "last_way_to_sign_in"
    assert sign_in_with(Client(app), devices[1]).status == 200


def test_passkeys_deleted_at_once_leave_enough(app: Flask, alice: Client) -> None:
    for device in (Authenticator(), Authenticator(), Authenticator(), Authenticator()):
        register(alice, device)
        sign_in_with(alice, device)
    remove_password(app)
    with app.app_context():
        execute_now(sa.delete(RecoveryCode))
    ids = [each["id"] for each in alice.call("GET", "/api/me/passkeys").json["passkeys"]]
    token = alice.token
    calls = [
        lambda each=each: Client(app).call("DELETE", f"/api/me/passkeys/{each}", bearer=token).status for each in ids
    ]
    assert sorted(at_once(*calls)) == [200, 200, 409, 409]


def test_recovery_codes_come_with_the_first_passkey_only(alice: Client) -> None:
    device = Authenticator()
    first = register(alice, device).json
    sign_in_with(alice, device)
    assert len(first["recoveryCodes"]) == 10
    assert "recoveryCodes" not in register(alice, Authenticator()).json


def test_number_of_passkeys_is_limited(alice: Client) -> None:
    device = Authenticator()
    register(alice, device)
    sign_in_with(alice, device)
    responses = [register(alice, Authenticator()) for _ in range(20)]
    assert [each.status for each in responses] == [200] * 19 + [400]
    assert responses[-1].problem[1:] == ("passkey_rejected", "An account has at most 20 passkeys.")


@pytest.mark.parametrize(("eligible", "backed_up"), [(BE, 0), (BE, BS)])
def test_synchronised_passkey_with_a_counter_that_goes_back_signs_in(
    app: Flask, alice: Client, eligible: int, backed_up: int
) -> None:
    device = Authenticator(flags=UP | UV | eligible | backed_up, counter=5)
    register(alice, device)
    for counter in (6, 3, 3, 0, 0):
        device.counter = counter
        assert sign_in_with(Client(app), device).status == 200
    assert reasons(app, "passkey_counter") == ["synchronised: accepted"] * 3


def test_device_bound_passkey_with_a_counter_that_goes_back_is_rejected(app: Flask, alice: Client) -> None:
    device = Authenticator(flags=UP | UV, counter=5)
    register(alice, device)
    statuses = []
    for counter in (6, 6, 0, 7):
        device.counter = counter
        statuses.append(sign_in_with(Client(app), device).status)
    assert statuses == [200, 401, 401, 200]
    assert reasons(app, "passkey_counter") == ["bound to a device: rejected"] * 2


def test_device_bound_passkey_without_a_counter_signs_in(app: Flask, alice: Client) -> None:
    device = Authenticator(flags=UP | UV)
    register(alice, device)
    assert [sign_in_with(Client(app), device).status for _ in range(3)] == [200, 200, 200]
    assert reasons(app, "passkey_counter") == []


@pytest.mark.parametrize(
    ("issuer", "count"),
    [
        ("https://auth.example.com:8443/auth", 2),
        ("https://192.0.2.1", 0),
        ("https://[2001:db8::1]", 0),
        ("http://auth.example.com", 0),
        ("http://app.localhost:3005", 2),
    ],
)
def test_routes_exist_if_browsers_offer_passkeys_at_the_issuer(databases: Databases, issuer: str, count: int) -> None:
    app = make_app(databases("sqlite"), TOKENAPP_ISSUER=issuer)
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert len(rules & {"/api/login/passkey", "/api/me/passkeys"}) == count


def test_fido2_is_loaded_with_the_first_signature(databases: Databases) -> None:
    program = (
        "import sys; from tokenapp import create_app; app = create_app(); client = app.test_client()\n"
        "assert client.post('/api/passkeys/options').status_code == 200\n"
        "assert not [name for name in sys.modules if name.startswith('fido2')]"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(DATABASE_URL=databases("sqlite")), check=True
    )


@pytest.mark.parametrize(
    ("rp_id", "problems"),
    [
        ("example.com", 0),
        ("AUTH.example.com", 0),
        ("com", 1),
        ("other.example.com", 1),
        ("ample.com", 1),
        ("192.0.2.1", 1),
        ("https://example.com", 1),
    ],
)
def test_domain_of_passkeys_covers_the_issuer(tmp_path: Path, rp_id: str, problems: int) -> None:
    settings = production(TOKENAPP_RP_ID=rp_id, DATABASE_URL=f"sqlite:///{tmp_path}/x.db")
    assert len(problems_of(settings, tmp_path)) == problems
    assert problems_of(development(), tmp_path) == []
