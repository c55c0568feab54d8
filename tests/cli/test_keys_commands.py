"""``flask keys``: list, rotate, import and retire signing keys."""

import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask

from tests.support.app import make_app
from tests.support.client import sign_in
from tests.support.commandline import create_user, error_of, run, run_json
from tokenapp import keys

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PEM = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)


def listed(app: Flask, use: str = "access") -> list[dict[str, Any]]:
    return [key for key in run_json(app, "keys", "list") if key["use"] == use]


def public_jwk() -> dict[str, str]:
    jwk = keys.material.open_key("", "access", *keys.read_pem(PEM)).jwk()
    assert jwk is not None
    return jwk


def test_keys_are_listed_without_their_private_part(app: Flask) -> None:
    create_user(app)
    sign_in(app)
    (access,) = listed(app)
    assert access.keys() == {"kid", "use", "algorithm", "state", "createdAt", "activatesAt", "verifiesUntil"}
    assert (access["algorithm"], access["state"]) == ("ES256", "active")
    assert access["verifiesUntil"] is None
    shown = run(app, "keys", "list").stdout.splitlines()
    assert shown[0].split("\t") == [
        *("use", "kid", "algorithm", "state"),
        *("created at", "activates at", "verifies until"),
    ]
    assert f"access\t{access['kid']}\tES256\tactive" in shown[1]


def test_list_without_keys_is_an_empty_array(app: Flask) -> None:
    assert run(app, "keys", "list", "--json").stdout == "[]\n"


@pytest.mark.parametrize("use", keys.USES)
def test_rotate_prints_when_the_new_key_becomes_active(app: Flask, use: str) -> None:
    for state in ("active", "pending"):
        result = run(app, "keys", "rotate", "--use", use)
        made = listed(app, use)[-1]
        assert made["state"] == state
        activates_at = made["activatesAt"][:19] + "Z"
        published = f"Published {made['kid']} ({made['algorithm']})."
        assert result.stdout == f"{published} It signs {use} tokens from {activates_at}.\n"
        assert result.stderr == ""
    second = run(app, "keys", "rotate", "--use", use, code=1)
    assert error_of(second) == "A pending key exists already. It must become active first."


@SQLITE
def test_rotate_warns_if_a_secret_signs_instead(database_url: str) -> None:
    app = make_app(database_url, ACCESS_TOKEN_SECRET=secrets.token_urlsafe(48))
    result = run(app, "keys", "rotate")
    assert result.stderr == "While ACCESS_TOKEN_SECRET is set, it signs instead of this key.\n"


@SQLITE
def test_key_is_imported_from_a_file(app: Flask, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(PEM)
    output = run(app, "keys", "import", str(file)).stdout
    assert output.startswith(f"Published {keys.thumbprint(public_jwk())} (ES256)")
    assert "is or was in use" in error_of(run(app, "keys", "import", str(file), code=1))
    result = run(app, "keys", "import", "--use", "refresh", str(file), code=1)
    assert error_of(result) == "Refresh tokens are always signed with HS256."
    file.write_bytes(PEM[:100])
    result = run(app, "keys", "import", str(file), code=1)
    assert error_of(result) == "The file does not contain an unencrypted private key in PEM."


def test_key_in_use_is_dropped_only_with_now_and_after_confirmation(app: Flask) -> None:
    create_user(app)
    for _ in range(2):
        sign_in(app)
    (key,) = listed(app)
    error = error_of(run(app, "keys", "retire", key["kid"], code=1))
    assert error == "The key still verifies valid tokens of 2 sessions: see --now."
    declined = run(app, "keys", "retire", "--now", key["kid"], stdin="n\n", code=1)
    assert "This invalidates the tokens of 2 sessions. Continue?" in declined.stderr
    assert listed(app)[0]["state"] == "active"
    result = run(app, "keys", "retire", "--now", key["kid"], stdin="y\n")
    assert result.stdout == f"Retired {key['kid']}. This invalidated the tokens of 2 sessions.\n"
    assert [each["state"] for each in listed(app)] == ["retired", "active"]
    assert error_of(run(app, "keys", "retire", "--now", "--yes", key["kid"], code=1)) == "Signing key not found."


@SQLITE
def test_pending_key_is_dropped_without_confirmation(app: Flask) -> None:
    run(app, "keys", "rotate")
    run(app, "keys", "rotate")
    pending = listed(app)[1]["kid"]
    result = run(app, "keys", "retire", pending)
    assert result.stdout == f"Retired {pending}. This invalidated the tokens of 0 sessions.\n"
    assert [key["state"] for key in listed(app)] == ["active", "retired"]
