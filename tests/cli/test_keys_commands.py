"""``flask keys``: what an operator types, and what comes of it."""

import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask

from tests.support.app import make_app
from tests.support.commandline import create_user, error_of, run, run_json, signed_in
from tokenapp import keys

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PEM = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


def listed(app: Flask, use: str = "access") -> list[dict[str, Any]]:
    return [key for key in run_json(app, "keys", "list") if key["use"] == use]


def test_keys_are_listed_with_what_they_are_and_never_with_what_is_secret(app: Flask) -> None:
    create_user(app)
    signed_in(app)
    (access,) = listed(app)
    assert access.keys() == {"kid", "use", "algorithm", "state", "createdAt", "activatesAt", "verifiesUntil"}
    assert (access["algorithm"], access["state"]) == ("ES256", "current")
    assert access["verifiesUntil"] is None
    shown = run(app, "keys", "list").stdout.splitlines()
    assert shown[0].split("\t") == [
        *("use", "kid", "algorithm", "state"),
        *("created at", "activates at", "verifies until"),
    ]
    assert f"access\t{access['kid']}\tES256\tcurrent" in shown[1]


def test_no_keys_are_an_empty_list(app: Flask) -> None:
    assert run(app, "keys", "list", "--json").stdout == "[]\n"


@pytest.mark.parametrize("use", keys.USES)
def test_rotating_says_from_when_the_key_signs(app: Flask, use: str) -> None:
    for state in ("current", "next"):
        told = run(app, "keys", "rotate", "--use", use)
        made = listed(app, use)[-1]
        assert made["state"] == state
        begins = made["activatesAt"][:19] + "Z"
        assert told.stdout == f"Published {made['kid']} ({made['algorithm']}); it signs {use} tokens from {begins}.\n"
        assert told.stderr == ""
    refused = run(app, "keys", "rotate", "--use", use, code=1)
    assert error_of(refused) == "There is a next key already; it must sign before another is made."


@SQLITE
def test_rotating_says_when_a_secret_signs_instead(database_url: str) -> None:
    app = make_app(database_url, ACCESS_TOKEN_SECRET=secrets.token_urlsafe(48))
    told = run(app, "keys", "rotate")
    assert told.stderr == "As long as ACCESS_TOKEN_SECRET is set, that one signs instead.\n"


@SQLITE
def test_a_key_is_imported_from_a_file(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(PEM)
    told = run(app, "keys", "import", str(file)).stdout
    assert told.startswith(f"Published {keys.thumbprint(public_jwk())} (ES256)")
    assert "in use already" in error_of(run(app, "keys", "import", str(file), code=1))
    refused = run(app, "keys", "import", "--use", "refresh", str(file), code=1)
    assert error_of(refused) == "Refresh tokens are always signed with HS256."
    file.write_bytes(PEM[:100])
    refused = run(app, "keys", "import", str(file), code=1)
    assert error_of(refused) == "The file holds no unencrypted private key in PEM."


def public_jwk() -> dict[str, str]:
    jwk = keys.material.open_key("", "access", *keys.read_pem(PEM)).jwk()
    assert jwk is not None
    return jwk


def test_a_key_in_use_is_dropped_only_when_told_to_and_after_a_yes(app: Flask) -> None:
    create_user(app)
    for _ in range(2):
        signed_in(app)
    (key,) = listed(app)
    refused = error_of(run(app, "keys", "retire", key["kid"], code=1))
    assert refused == "The key still verifies live tokens, of 2 sessions: see --now."
    declined = run(app, "keys", "retire", "--now", key["kid"], stdin="n\n", code=1)
    assert "Live tokens of 2 sessions die. Drop the key?" in declined.stderr
    assert listed(app)[0]["state"] == "current"
    told = run(app, "keys", "retire", "--now", key["kid"], stdin="y\n")
    assert told.stdout == f"Retired {key['kid']}; it cost 2 sessions their tokens.\n"
    assert [each["state"] for each in listed(app)] == ["retired", "current"]
    assert error_of(run(app, "keys", "retire", "--now", "--yes", key["kid"], code=1)) == "There is no such key."


@SQLITE
def test_a_next_key_is_taken_back_without_further_words(app: Flask) -> None:
    run(app, "keys", "rotate")
    run(app, "keys", "rotate")
    waiting = listed(app)[1]["kid"]
    assert run(app, "keys", "retire", waiting).stdout == f"Retired {waiting}; it cost 0 sessions their tokens.\n"
    assert [key["state"] for key in listed(app)] == ["current", "retired"]


@SQLITE
def test_an_unknown_user_is_not_unlocked(app: Flask) -> None:
    assert error_of(run(app, "users", "unlock", "nobody", code=1)) == "There is no such user."


def test_an_unlocked_account_may_try_again_at_once(app: Flask) -> None:
    create_user(app)
    client = app.test_client()
    wrong = {"username": "alice", "password": "not the password at all"}
    statuses = [client.post("/api/login", json=wrong).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    assert run(app, "users", "unlock", " Alice ").stdout == "Unlocked alice.\n"
    signed_in(app)
    assert [record["kind"] for record in run_json(app, "events", "list", "--kind", "user_unlocked")] == [
        "user_unlocked"
    ]
