"""A passkey as the first second factor of a user who must have one."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import application, create_user
from tests.support.authenticator import Authenticator, pending_of, second_step
from tests.support.client import Client, Response, claims_of, sign_in
from tests.support.concurrency import at_once
from tests.support.security_keys import BE, BS, UP, sign_in_with
from tests.support.security_keys import Authenticator as SecurityKey
from tests.support.security_keys import creation_options as options_of_session

FIREFOX = "Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0"
REQUIRED = {"TOKENAPP_SECOND_FACTOR": "required"}


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Return an application that requires second factors, with the user alice."""
    with application(database_url, **REQUIRED) as app:
        create_user(app)
        yield app


def creation_options(app: Flask, pending: str) -> Response:
    return Client(app).send("POST", "/api/login/setup/passkey", payload={"pending": pending})


def confirm(client: Client, pending: str, credential: Any) -> Response:
    payload = {"pending": pending, "method": "passkey", "credential": credential}
    return client.call("POST", "/api/login/second", bearer=None, payload=payload, headers={"User-Agent": FIREFOX})


def test_new_passkey_signs_in_and_gives_recovery_codes(app: Flask) -> None:
    pending, key, client = pending_of(app), SecurityKey(), Client(app)
    response = confirm(client, pending, key.create(creation_options(app, pending).json))
    assert response.status == 200
    assert len(response.json["recoveryCodes"]) == 10
    claims = claims_of(response.json["accessToken"])
    assert (claims["acr"], claims["amr"]) == ("2", ["pwd", "swk", "user", "mfa"])
    assert [each["name"] for each in client.call("GET", "/api/me/passkeys").json["passkeys"]] == ["Firefox on Windows"]
    assert sign_in_with(Client(app), key).status == 200
    assert Client(app).login().json["methods"] == ["passkey", "recovery_code"]


def test_options_are_for_the_user_and_give_no_access(app: Flask) -> None:
    pending = pending_of(app)
    response = creation_options(app, pending)
    options = response.json["publicKey"]
    assert (options["user"]["name"], options["rp"]["id"]) == ("alice", "localhost")
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert response.cookie is None


def test_options_of_another_sign_in_are_rejected(app: Flask) -> None:
    pending, other = pending_of(app), pending_of(app)
    credential = SecurityKey().create(creation_options(app, other).json)
    assert confirm(Client(app), pending, credential).code == "passkey_rejected"


def test_options_of_a_session_are_rejected(app: Flask, database_url: str) -> None:
    with application(database_url) as lenient:
        credential = SecurityKey().create(options_of_session(sign_in(lenient)))
    assert confirm(Client(app), pending_of(app), credential).code == "passkey_rejected"


def test_passkey_without_user_verification_is_rejected(app: Flask) -> None:
    pending = pending_of(app)
    credential = SecurityKey(flags=UP | BE | BS).create(creation_options(app, pending).json)
    assert confirm(Client(app), pending, credential).code == "passkey_rejected"


def test_malformed_credential_is_rejected_and_leaves_the_sign_in_open(app: Flask) -> None:
    pending = pending_of(app)
    credential = SecurityKey().create(creation_options(app, pending).json)
    for malformed in (
        None,
        {},
        {"rawId": 1, "response": 2},
        {"response": {"clientDataJSON": "e30"}},
        {**credential, "rawId": "AAAA"},
        {**credential, "response": {**credential["response"], "transports": [1]}},
        {**credential, "response": {**credential["response"], "transports": 7}},
    ):
        assert confirm(Client(app), pending, malformed).status == 400
    assert confirm(Client(app), pending, credential).status == 200


def test_signature_of_an_existing_passkey_is_not_a_new_one(app: Flask) -> None:
    create_user(app, "ben")
    key, pending = SecurityKey(), pending_of(app, "ben")
    confirm(Client(app), pending, key.create(creation_options(app, pending).json))
    pending = pending_of(app)
    credential = key.create(creation_options(app, pending).json)
    response = confirm(Client(app), pending, credential)
    assert response.problem[1:] == ("passkey_rejected", "This passkey was added before.")


@pytest.mark.parametrize("factor", ["totp", "passkey"])
def test_sign_in_of_a_user_with_a_factor_sets_up_none(app: Flask, factor: str) -> None:
    pending, late = pending_of(app), pending_of(app)
    credential = SecurityKey().create(creation_options(app, late).json)
    if factor == "passkey":
        confirm(Client(app), pending, SecurityKey().create(creation_options(app, pending).json))
    else:
        started = Client(app).send("POST", "/api/login/setup/totp", payload={"pending": pending})
        second_step(Client(app), pending, Authenticator(started.json["secret"]).code())
    assert confirm(Client(app), late, credential).code == "sign_in_expired"
    assert creation_options(app, pending_of(app)).code == "sign_in_expired"
    assert confirm(Client(app), pending_of(app), credential).code == "passkey_invalid"


def test_one_of_several_set_ups_at_once_counts(app: Flask) -> None:
    calls = []
    for _ in range(4):
        pending = pending_of(app)
        credential = SecurityKey().create(creation_options(app, pending).json)
        calls.append(partial(confirm, Client(app), pending, credential))
    responses = sorted(at_once(*calls), key=lambda response: response.status)
    assert [each.status for each in responses] == [200, 401, 401, 401]
    listed = Client(app).call("GET", "/api/me/passkeys", bearer=responses[0].json["accessToken"])
    assert len(listed.json["passkeys"]) == 1


def test_without_a_domain_only_an_app_can_be_set_up(databases: Databases) -> None:
    with application(databases("sqlite"), TOKENAPP_ISSUER="https://192.0.2.1", **REQUIRED) as app:
        create_user(app)
        step = Client(app).login().json
        assert step["setup"] == ["totp"]
        assert creation_options(app, step["pending"]).status == 404
        assert confirm(Client(app), step["pending"], None).code == "invalid_code"
