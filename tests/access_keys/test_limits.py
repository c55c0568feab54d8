"""What access keys cannot do, what they cost, and many of them that are wrong."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import time_machine
from flask import Flask

from tests.conftest import Databases
from tests.support.access_keys import create_key, exchange, statements_of
from tests.support.app import application, create_user
from tests.support.calls import count_calls
from tests.support.client import Client, Response, sign_in
from tests.support.documented import document_of, operations
from tests.support.service_clients import register
from tokenapp import access_keys

ONE_DATABASE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
# The routes that take the access token of a key. All others are for people.
FOR_KEYS = {("GET", "/api/protected"), ("GET", "/api/verify"), ("GET", "/api/verify/{rest}"), ("POST", "/api/logout")}
MALFORMED = [
    "tokenapp_",
    "tokenapp_" + "0" * 36,
    "tokenapp_" + "0" * 35,
    "tokenapp_" + "0" * 37,
    "xtokenapp_" + "0" * 36,
    "tokenapp_" + "-" * 36,
]


@pytest.fixture
def strict(databases: Databases) -> Iterator[Flask]:
    """Return an application with a limit of five unknown keys a minute."""
    with application(databases("sqlite"), TOKENAPP_ADDRESS_FAILURES="5") as app:
        create_user(app)
        yield app


def mistyped(key: str) -> str:
    return key[:-1] + ("0" if key[-1] != "0" else "1")


# The matrix of credentials and routes


@ONE_DATABASE
def test_key_is_no_access_token_and_its_token_is_for_no_other_route(app: Flask, alice: Client, key: str) -> None:
    document, token = document_of(app), exchange(app, key)
    payload = {"currentPassword": "x", "newPassword": "y", "password": "z", "name": "n", "email": "a@example.com"}
    checked = 0
    for method, path, operation in operations(document):
        if {"bearer": []} not in operation["security"] or (method, path) in FOR_KEYS:
            continue
        checked += 1
        target = re.sub(r"{\w+}", "unknown", path)
        raw = alice.send(method, target, payload=payload, bearer=key)
        assert raw.code == "access_token_invalid", f"{method} {path}"
        response = alice.send(method, target, payload=payload, bearer=token)
        assert response.code == "insufficient_scope", f"{method} {path}"
        assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api", error="insufficient_scope"'
    assert checked >= 9
    assert alice.protected().status == 200


@ONE_DATABASE
def test_no_route_of_the_account_takes_a_key_instead_of_a_cookie(app: Flask, alice: Client, key: str) -> None:
    for cookie in (key, exchange(app, key)):
        assert alice.refresh(cookie).code == "refresh_token_revoked"
        assert alice.logout(cookie).status == 204
    exchange(app, key)


@ONE_DATABASE
def test_token_of_a_key_that_signs_out_revokes_nothing(app: Flask, key: str) -> None:
    token = exchange(app, key)
    assert Client(app).send("POST", "/api/logout", bearer=token).status == 204
    assert Client(app).protected(token).status == 200
    exchange(app, key)


@ONE_DATABASE
def test_access_token_is_not_exchanged(app: Flask, alice: Client, key: str) -> None:
    for bearer in (alice.token, exchange(app, key)):
        assert Client(app).send("POST", "/api/token", bearer=bearer).code == "refresh_token_missing"


@ONE_DATABASE
def test_two_credentials_are_rejected(app: Flask, alice: Client, key: str) -> None:
    client = Client(app)
    for more in ({"cookie": alice.cookie}, {"cookie": ""}):
        assert client.send("POST", "/api/token", bearer=key, **more).code == "invalid_request"
    for both in (f"{key}, Bearer {key}", f"{key}, Bearer {alice.token}"):
        assert client.send("POST", "/api/token", bearer=both).code == "invalid_request"
        assert client.send("GET", "/api/verify", bearer=both).code == "access_token_invalid"
    assert alice.refresh().status == 200


@ONE_DATABASE
def test_cookie_beside_an_access_token_is_refreshed(alice: Client) -> None:
    assert alice.send("POST", "/api/token", bearer=alice.token, cookie=alice.cookie).status == 200


@ONE_DATABASE
def test_scheme_is_case_insensitive(app: Flask, key: str) -> None:
    for scheme in ("bearer", "BEARER", "Bearer "):
        headers = {"Authorization": f"{scheme} {key}"}
        assert Client(app).send("POST", "/api/token", headers=headers).status == 200
        assert Client(app).send("GET", "/api/verify", headers=headers).status == 204


# What keys cost


@pytest.mark.parametrize("text", [*MALFORMED, "mistyped"])
def test_malformed_key_costs_no_statement(app: Flask, key: str, text: str) -> None:
    given = mistyped(key) if text == "mistyped" else text
    client, statements = Client(app), statements_of(app)
    assert client.send("POST", "/api/token", bearer=given).status in {401, 403}
    assert client.send("GET", "/api/verify", bearer=given).status == 403
    assert client.send("POST", "/api/revoke", form={"token": given}).status == 401
    assert [statement for statement in statements if "signing_keys" not in statement] == []


def test_requests_with_a_key_cost_no_statement_each(app: Flask, key: str) -> None:
    client, token = Client(app), exchange(app, key)
    statements = statements_of(app)
    for _ in range(100):
        assert client.send("GET", "/api/verify", bearer=key).status == 204
        assert client.protected(token).status == 200
    assert sum("access_keys" in statement for statement in statements) <= 4


def test_revoked_key_costs_no_statement_each(app: Flask, key: str) -> None:
    client = Client(app)
    client.send("POST", "/api/revoke", form={"token": key})
    statements = statements_of(app)
    assert {client.send("GET", "/api/verify", bearer=key).status for _ in range(50)} == {403}
    assert sum("access_keys" in statement for statement in statements) <= 2


def test_verifying_a_key_costs_little_more_than_a_token(strict: Flask) -> None:
    client = sign_in(strict)
    totals = []
    for bearer in (client.token, create_key(client)["key"]):
        headers = {"Authorization": f"Bearer {bearer}"}
        calls = [count_calls(strict, "GET", "/api/verify", headers) for _ in range(5)]
        assert {each.status for each in calls} == {"204 NO CONTENT"}
        totals.append(min(each.total for each in calls))  # without a renewal of the revocation list
    assert totals[1] <= 1.3 * totals[0], totals


# Unknown keys


@time_machine.travel(datetime(2031, 5, 6, 7, 8, 20, tzinfo=UTC), tick=False)  # the next minute has a count of its own
def test_unknown_keys_of_one_address_are_limited(strict: Flask) -> None:
    key = create_key(sign_in(strict))["key"]
    client = Client(strict)

    def guess() -> Response:
        return client.send("POST", "/api/token", bearer=access_keys.generate())

    assert [guess().code for _ in range(5)] == ["access_key_invalid"] * 5
    assert guess().code == "too_many_attempts"
    statements = statements_of(strict)
    response = guess()
    assert (response.code, statements) == ("too_many_attempts", [])
    assert 1 <= int(response.header("Retry-After") or 0) <= 60
    assert client.send("GET", "/api/verify", bearer=access_keys.generate()).code == "access_token_invalid"
    assert client.send("POST", "/api/revoke", form={"token": access_keys.generate()}).status == 429
    elsewhere = {"REMOTE_ADDR": "192.0.2.77"}
    assert client.send("POST", "/api/token", bearer=key, environ=elsewhere).status == 200
    assert client.login().status == 200, "passwords have a limit of their own"


def test_existing_keys_do_not_count(strict: Flask) -> None:
    key = create_key(sign_in(strict))["key"]
    client = Client(strict)
    client.send("POST", "/api/revoke", form={"token": key})
    statuses = {client.send("POST", "/api/token", bearer=given).status for given in [key, mistyped(key)] * 10}
    assert statuses == {403}


def test_other_services_may_ask_about_and_revoke_any_number_of_keys(strict: Flask) -> None:
    service = register(strict)
    assert not any(service.is_active(access_keys.generate()) for _ in range(10))
    assert {service.post("/api/revoke", token=access_keys.generate()).status for _ in range(10)} == {200}
