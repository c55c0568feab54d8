"""Signatures of passkeys that are invalid, late, used, or meant for others."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from fido2 import cbor
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support.app import application, create_user, make_app
from tests.support.client import Client, Response, sign_in
from tests.support.concurrency import at_once
from tests.support.security_keys import (
    BE,
    BS,
    UP,
    UV,
    Authenticator,
    creation_options,
    decode,
    encode,
    passkey_login,
    register,
    request_options,
    sign_in_with,
)
from tokenapp.db import db, execute_now
from tokenapp.factors import assertions, challenges

Change = Callable[[dict[str, Any]], None]
CLIENTS = 20
ATTACKER = "https://login.example.com.attacker.example"


@pytest.fixture
def device(alice: Client) -> Authenticator:
    """Give a passkey of alice."""
    device = Authenticator()
    assert register(alice, device).status == 200
    return device


@pytest.fixture(scope="module")
def _shared(databases: Databases) -> tuple[Flask, Authenticator]:
    app, device = make_app(databases("sqlite")), Authenticator()
    create_user(app)
    assert register(sign_in(app), device).status == 200
    return app, device


@pytest.fixture
def one(_shared: tuple[Flask, Authenticator]) -> tuple[Client, Authenticator]:
    """Give a client and a passkey of a shared database: nothing is written."""
    return Client(_shared[0]), replace(_shared[1])


def rows(app: Flask) -> dict[str, int]:
    """Return the number of rows of each table."""
    with app.app_context():
        return {
            table.name: execute_now(sa.select(sa.func.count()).select_from(table))[0][0]
            for table in db.metadata.sorted_tables
        }


def add(client: Client, credential: dict[str, Any]) -> Response:
    return client.call("POST", "/api/me/passkeys", payload={"credential": credential})


def flip(name: str, index: int) -> Change:
    """Return a change of one bit in a member of the response."""

    def change(credential: dict[str, Any]) -> None:
        raw = bytearray(decode(credential["response"][name]))
        raw[index] ^= 1
        credential["response"][name] = encode(bytes(raw))

    return change


def set_member(name: str, value: Any) -> Change:
    def change(credential: dict[str, Any]) -> None:
        credential["response"][name] = value

    return change


def set_id(credential: dict[str, Any]) -> None:
    credential["id"] = encode(b"another credential")


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": ATTACKER},
        {"origin": "http://localhost:3006"},
        {"origin": "https://localhost:3005"},
        {"origin": "http://localhost:3005/"},
        {"origin": "null"},
        {"origin": ""},
        {"rp_id": "example.com"},
        {"rp_id": "localhost:3005"},
        {"cross_origin": True},
        {"top_origin": ATTACKER},
        {"flags": UP | BE | BS},
        {"flags": UV | BE | BS},
        {"flags": UP | UV},
        {"flags": UP | UV | BS},
        {"user_handle": encode(b"another user")},
        {"user_handle": encode(b"\xff")},
        {"user_handle": None},
        {"key": ec.generate_private_key(ec.SECP256R1())},
    ],
    ids=lambda changes: " ".join(map(str, changes)),
)
def test_signature_of_another_kind_is_rejected(one: tuple[Client, Authenticator], changes: dict[str, Any]) -> None:
    client, device = one
    for name, value in changes.items():
        setattr(device, name, value)
    response = sign_in_with(client, device)
    assert response.problem == (401, "passkey_invalid", "The passkey could not be verified.")
    assert response.cookie is None


@pytest.mark.parametrize(
    "change",
    [
        flip("authenticatorData", 0),
        flip("authenticatorData", 33),
        flip("authenticatorData", 36),
        flip("signature", -1),
        flip("clientDataJSON", 2),
        flip("clientDataJSON", 60),
        set_member("authenticatorData", ""),
        set_member("authenticatorData", encode(bytes(36))),
        set_member("signature", ""),
        set_member("clientDataJSON", ""),
        set_member("clientDataJSON", encode(b"[]")),
        set_member("clientDataJSON", encode(b'{"type": 1, "challenge": 2, "origin": []}')),
        set_member("clientDataJSON", encode(b'{"challenge": "' + b"A" * 3000 + b'"}')),
        set_member("clientDataJSON", encode(b"\xff\xfe")),
        set_member("clientDataJSON", encode(b"[" * 5000)),
        set_id,
    ],
)
def test_tampered_signature_is_rejected(one: tuple[Client, Authenticator], change: Change) -> None:
    client, device = one
    credential = device.get(request_options(client))
    change(credential)
    assert passkey_login(client, credential).code == "passkey_invalid"


def test_signature_for_another_use_of_the_client_data_is_rejected(one: tuple[Client, Authenticator]) -> None:
    client, device = one
    options = request_options(client)
    assert passkey_login(client, device.get(options, kind="webauthn.create")).code == "passkey_invalid"


@pytest.mark.parametrize("challenge", ["", "AAAA", encode(b"1.2.3"), encode(bytes(64)), encode(b"9" * 400)])
def test_challenge_that_was_not_issued_is_rejected(one: tuple[Client, Authenticator], challenge: str) -> None:
    client, device = one
    credential = device.get({"publicKey": {"challenge": challenge}})
    assert passkey_login(client, credential).code == "passkey_invalid"


def test_challenge_for_a_new_passkey_does_not_sign_in(app: Flask, alice: Client, device: Authenticator) -> None:
    sign_in_with(alice, device)
    credential = device.get({"publicKey": {"challenge": creation_options(alice)["publicKey"]["challenge"]}})
    assert passkey_login(Client(app), credential).code == "passkey_invalid"


@pytest.mark.parametrize(("minutes", "status"), [(4.9, 200), (5.1, 401), (-0.9, 200), (-1.1, 401)])
def test_challenge_is_valid_for_five_minutes(app: Flask, device: Authenticator, minutes: float, status: int) -> None:
    moment = datetime.now(UTC)
    with time_machine.travel(moment, tick=False):
        credential = device.get(request_options(Client(app)))
    with time_machine.travel(moment + timedelta(minutes=minutes), tick=False):
        assert passkey_login(Client(app), credential).status == status


def test_signature_works_once(app: Flask, device: Authenticator) -> None:
    credential = device.get(request_options(Client(app)))
    assert passkey_login(Client(app), credential).status == 200
    before = rows(app)
    assert passkey_login(Client(app), credential).code == "passkey_invalid"
    assert rows(app) == before


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_one_of_many_uses_of_a_signature_succeeds(databases: Databases, serve: Servers, kind: str) -> None:
    url = databases(kind)
    server = serve(url, WEB_CONCURRENCY="4", TOKENAPP_ISSUER="http://localhost:3005")
    with application(url) as app:
        create_user(app)
        device = Authenticator()
        register(sign_in(app), device)
        for _ in range(3):
            credential = device.get(request_options(server.client))

            def use(credential: dict[str, Any] = credential) -> int:
                while (status := passkey_login(Client(server.port), credential).status) == 503:
                    pass
                return status

            assert sorted(at_once(*[use] * CLIENTS)) == [200] + [401] * (CLIENTS - 1)
        assert rows(app)["spent_challenges"] == 4


def test_unauthenticated_traffic_writes_no_row(app: Flask, device: Authenticator) -> None:
    before = rows(app)
    client = Client(app)
    for _ in range(200):
        request_options(client)
    wrong = Authenticator(user_handle=device.user_handle)
    forged = Authenticator(user_handle=device.user_handle, credential_id=device.credential_id)
    for each in (wrong, forged):
        for _ in range(10):
            assert sign_in_with(client, each).status == 401
    assert rows(app) == before


def test_ten_thousand_challenges_are_different_and_write_no_row(app: Flask) -> None:
    before = rows(app)
    with app.app_context():
        now = datetime.now(UTC)
        assert len({challenges.issue(assertions.USE, now) for _ in range(10_000)}) == 10_000
    assert rows(app) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": ATTACKER},
        {"rp_id": "example.com"},
        {"cross_origin": True},
        {"top_origin": ATTACKER},
        {"flags": UP | BE},
        {"flags": UV | BE},
        {"flags": UP | UV | BS},
        {"credential_id": bytes(1024)},
        {"key": ec.generate_private_key(ec.SECP384R1())},
    ],
    ids=lambda changes: " ".join(map(str, changes)),
)
def test_new_passkey_of_another_kind_is_rejected(alice: Client, changes: dict[str, Any]) -> None:
    response = register(alice, Authenticator(**changes))
    assert response.problem == (400, "passkey_rejected", "The passkey could not be added.")
    assert alice.call("GET", "/api/me/passkeys").json["passkeys"] == []


@pytest.mark.parametrize(
    "generate",
    [ed25519.Ed25519PrivateKey.generate, partial(rsa.generate_private_key, 65537, 2048)],
    ids=["EdDSA", "RS256"],
)
def test_key_of_each_offered_algorithm_signs_in(app: Flask, alice: Client, generate: Callable[[], Any]) -> None:
    device = Authenticator(key=generate())
    assert register(alice, device).status == 200
    assert sign_in_with(Client(app), device).status == 200
    device.key = generate()
    assert sign_in_with(Client(app), device).code == "passkey_invalid"


@pytest.mark.parametrize(
    "key",
    [
        {3: -65535},
        {3: -7, -2: bytes(32)},
        {-2: b""},
        {3: -257, -1: b"\xff" * 255, -2: b"\1\0\1"},
        {3: -257, -1: b"\xff" * 513, -2: b"\1\0\1"},
        {99: bytes(2000)},
    ],
    ids=lambda key: str(key)[:20],
)
def test_key_that_cannot_verify_is_rejected(alice: Client, key: dict[int, Any]) -> None:
    credential = Authenticator().create(creation_options(alice), key=key)
    assert add(alice, credential).code == "passkey_rejected"


@pytest.mark.parametrize(
    "attestation", [b"", b"\x80", b"\x9f" * 4000, cbor.encode({"fmt": "none", "attStmt": {}, "authData": b""})], ids=len
)
def test_malformed_attestation_is_rejected(alice: Client, attestation: bytes) -> None:
    credential = Authenticator().create(creation_options(alice))
    credential["response"]["attestationObject"] = encode(attestation)
    assert add(alice, credential).code == "passkey_rejected"


def test_new_passkey_works_once(app: Flask, alice: Client) -> None:
    device = Authenticator()
    credential = device.create(creation_options(alice))
    assert add(alice, credential).status == 200
    sign_in_with(alice, device)
    assert add(alice, credential).code == "passkey_rejected"
    assert rows(app)["passkeys"] == 1


def test_credential_of_another_user_cannot_be_added(app: Flask, alice: Client, device: Authenticator) -> None:
    del alice
    create_user(app, "ben")
    ben = sign_in(app, "ben")
    response = add(ben, device.create(creation_options(ben)))
    assert response.problem == (400, "passkey_rejected", "This passkey was added before.")


def test_challenge_for_a_new_passkey_is_for_one_session(app: Flask, alice: Client) -> None:
    options = creation_options(alice)
    other = sign_in(app)
    assert add(other, Authenticator().create(options)).code == "passkey_rejected"


def test_wrong_types_are_invalid_requests(alice: Client) -> None:
    credential = Authenticator().create(creation_options(alice))
    for path, wrong in (
        ("/api/login/passkey", {**credential, "rawId": "with spaces"}),
        ("/api/login/passkey", {**credential, "response": []}),
        ("/api/login/passkey", {**credential, "type": "password"}),
        ("/api/me/passkeys", {**credential, "response": {"clientDataJSON": 1}}),
    ):
        assert alice.call("POST", path, payload={"credential": wrong}).code == "invalid_request"
