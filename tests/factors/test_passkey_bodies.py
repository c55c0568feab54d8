"""Bodies with a passkey or its name that neither a browser nor a person sends."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import create_user, make_app
from tests.support.authenticator import pending_of
from tests.support.client import Client, Response, sign_in
from tests.support.security_keys import (
    Authenticator,
    creation_options,
    encode,
    passkey_login,
    register,
    request_options,
    sign_in_with,
)
from tokenapp import audit

Send = Callable[[Client, dict[str, Any]], Response]
HUGE = 10**11  # fido2 takes a number for a size in bytes
NOT_BASE64URL = [HUGE, -1, 1.5, True, [1, 2], {"a": 1}, "AAAA==", "AA+/", "AA AA", "AAAA\n", "\u00e9"]
HIDDEN = ["a\n", "a\x85b", "a\u202eb", "\u2066a", "a\u2028b"]
BLANK = ["", "   ", "\u200b", "\u00a0"]


@pytest.fixture(scope="module")
def signed_in(databases: Databases) -> tuple[Client, Authenticator]:
    """Return a client of a user who signed in with a passkey, and the passkey."""
    app, device = make_app(databases("sqlite")), Authenticator()
    create_user(app)
    client = sign_in(app)
    assert register(client, device).status == 200
    assert sign_in_with(client, device).status == 200
    return client, device


def second_step(client: Client, credential: Any, pending: str = "A" * 43) -> Response:
    payload = {"pending": pending, "method": "passkey", "credential": credential}
    return client.send("POST", "/api/login/second", payload=payload)


def step_up(client: Client, credential: Any) -> Response:
    return client.call("POST", "/api/reauthenticate", payload={"method": "passkey", "credential": credential})


@pytest.mark.parametrize("member", ["rawId", "clientDataJSON", "authenticatorData", "signature", "userHandle"])
@pytest.mark.parametrize("send", [passkey_login, second_step, step_up])
def test_member_that_is_not_base64url_is_an_invalid_request(
    signed_in: tuple[Client, Authenticator], send: Send, member: str
) -> None:
    client, device = signed_in
    credential = device.get(request_options(client))
    for wrong in NOT_BASE64URL:
        response = send(client, _changed(credential, member, wrong))
        assert (response.status, response.code) == (400, "invalid_request"), wrong


@pytest.mark.parametrize("send", [passkey_login, second_step, step_up])
def test_credential_of_another_shape_is_an_invalid_request(signed_in: tuple[Client, Authenticator], send: Send) -> None:
    client, device = signed_in
    credential = device.get(request_options(client))
    others: tuple[Any, ...] = (
        {},
        [],
        "text",
        1,
        {**credential, "response": []},
        {**credential, "response": {}},
        {**credential, "type": "password"},
        {**credential, "id": 1},
    )
    for wrong in others:
        response = send(client, wrong)
        assert (response.status, response.code) == (400, "invalid_request"), wrong


def test_new_passkey_with_the_id_of_another_is_rejected(signed_in: tuple[Client, Authenticator]) -> None:
    client, device = signed_in
    other = encode(device.credential_id)
    credential = {**Authenticator().create(creation_options(client)), "id": other, "rawId": other}
    assert client.call("POST", "/api/me/passkeys", payload={"credential": credential}).code == "passkey_rejected"


def test_every_cause_of_a_failed_second_step_can_be_recorded(app: Flask, alice: Client) -> None:
    device = Authenticator()
    register(alice, device)
    pending, credential = pending_of(app), device.get(request_options(alice))
    wrong = [
        _changed(credential, "authenticatorData", encode(bytes(20))),
        _changed(credential, "userHandle", encode(b"\xff\xfe")),
        _changed(credential, "signature", encode(b"0")),
    ]
    assert [second_step(Client(app), each, pending).code for each in wrong] == ["passkey_invalid"] * 3
    with app.app_context():
        reasons = [event.reason for event in audit.list_events(kind="factor_failed")]
    assert reasons == [
        "passkey: malformed (ValueError)",
        "passkey: malformed (UnicodeDecodeError)",
        "passkey: invalid signature",
    ]


def test_passkey_is_not_renamed_to_what_nobody_can_read(signed_in: tuple[Client, Authenticator]) -> None:
    client, _ = signed_in
    path = f"/api/me/passkeys/{client.call('GET', '/api/me/passkeys').json['passkeys'][0]['id']}"
    for name in HIDDEN + BLANK:
        assert client.call("PATCH", path, payload={"name": name}).code == "invalid_request", repr(name)
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert client.call("PATCH", path, payload={"name": f" {family} "}).json["name"] == family


def test_new_passkey_with_a_hidden_name_is_an_invalid_request(signed_in: tuple[Client, Authenticator]) -> None:
    client, _ = signed_in
    credential = Authenticator().create(creation_options(client))
    for name in [*HIDDEN, "\u200b"]:
        payload = {"credential": credential, "name": name}
        assert client.call("POST", "/api/me/passkeys", payload=payload).code == "invalid_request", repr(name)


def test_access_key_with_a_hidden_name_is_an_invalid_request(signed_in: tuple[Client, Authenticator]) -> None:
    client, _ = signed_in
    for name in HIDDEN + BLANK:
        response = client.call("POST", "/api/me/access-keys", payload={"name": name})
        assert response.code == "invalid_request", repr(name)


def _changed(credential: dict[str, Any], member: str, value: Any) -> dict[str, Any]:
    if member in credential:
        return {**credential, member: value}
    return {**credential, "response": {**credential["response"], member: value}}
