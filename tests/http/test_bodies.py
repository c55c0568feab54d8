"""JSON request bodies: which are accepted, and the errors of all others."""

import gzip
import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support import stored
from tests.support.app import PASSWORD, create_user, make_app
from tests.support.calls import count_calls
from tests.support.client import Client, Response, sign_in
from tests.support.forge import issue
from tokenapp import passwords
from tokenapp.api.auth import LoginBody

LIMIT: Final = 16 * 1024
GOOD_LOGIN: Final = {"username": "alice", "password": PASSWORD}
ALICE: Final = json.dumps(GOOD_LOGIN).encode()
JSON: Final = {"Content-Type": "application/json"}
INVALID_CREDENTIALS: Final = (401, "invalid_credentials", "Invalid credentials.")


def login(app: Flask, body: bytes, headers: Mapping[str, str] = JSON, **more: Any) -> Response:
    """Send `body` to the sign-in route."""
    return Client(app).send("POST", "/api/login", body=body, headers=headers, **more)


MALFORMED: Final = {
    "empty": b"",
    "whitespace": b" \r\n\t ",
    "null": b"null",
    "true": b"true",
    "number": b"12",
    "string": b'"alice"',
    "string with JSON": json.dumps(ALICE.decode()).encode(),
    "array": b'["alice", "secret"]',
    "array with the object": b"[" + ALICE + b"]",
    "empty object": b"{}",
    "form": b"username=alice&password=x",
    "HTML": b"<html>",
    "truncated": ALICE[:-1],
    "truncated in a string": ALICE[:-3],
    "trailing comma": ALICE[:-1] + b",}",
    "trailing text": ALICE + b"x",
    "two objects": ALICE + ALICE,
    "trailing NUL": ALICE + b"\x00",
    "two BOMs": b"\xef\xbb\xbf" * 2 + ALICE,
    "BOM after white space": b" \xef\xbb\xbf" + ALICE,
    "UTF-16": ALICE.decode().encode("utf-16"),
    "UTF-32": ALICE.decode().encode("utf-32"),
    "invalid UTF-8": b'{"username":"\xff","password":"x"}',
    "overlong UTF-8": b'{"username":"\xc0\xaf","password":"x"}',
    "surrogate in UTF-8": b'{"username":"\xed\xa0\x80","password":"x"}',
    "invalid UTF-8 in an unknown field": ALICE[:-1] + b',"x":"\xff"}',
    "single quotes": ALICE.replace(b'"', b"'"),
    "comment": b"/* */" + ALICE,
    "NaN": b'{"username":NaN,"password":"x"}',
    "Infinity": b'{"username":"alice","password":Infinity}',
    "NaN in an unknown field": ALICE[:-1] + b',"x":NaN}',
    "number out of range": b'{"username":1e999,"password":"x"}',
    "raw line feed in a string": b'{"username":"a\nb","password":"x"}',
    "invalid escape": b'{"username":"\\x61","password":"x"}',
    "lone high surrogate": b'{"username":"\\ud800","password":"x"}',
    "lone low surrogate": b'{"username":"\\udfff","password":"x"}',
    "lone surrogate in the password": b'{"username":"alice","password":"\\ud83d"}',
    "surrogates in the wrong order": b'{"username":"\\udc00\\ud800","password":"x"}',
    "lone surrogate in an unknown field": ALICE[:-1] + b',"x":"\\ud800"}',
    "NUL in the user name": b'{"username":"alice\\u0000","password":"x"}',
    "NUL in the password": b'{"username":"alice","password":"\\u0000"}',
    "arrays nested 8000 deep": b"[" * 8000 + b"]" * 8000,
    "objects nested 2700 deep": b'{"a":' * 2700 + b"1" + b"}" * 2700,
    "unknown field nested 6000 deep": ALICE[:-1] + b',"x":' + b"[" * 6000 + b"]" * 6000 + b"}",
    "nested and unclosed": b"[" * 16000,
    "missing password": b'{"username":"alice"}',
    "missing user name": b'{"password":"x"}',
    "field names in capitals": b'{"Username":"alice","Password":"x"}',
    "inside another object": b'{"user":' + ALICE + b"}",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_body_is_rejected_and_changes_nothing(shared_app: Flask, body: bytes) -> None:
    before = stored.sessions(shared_app)
    response = login(shared_app, body)
    assert (response.status, response.code) == (400, "invalid_request")
    assert response.cookie is None
    assert stored.sessions(shared_app) == before


ENCODINGS: Final = {
    **dict.fromkeys(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"), "is UTF-16 or UTF-32"),
    **dict.fromkeys(("latin-1", "cp1252"), "is not UTF-8. If it is Latin-1"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("charset", ["", "; charset=utf-8", "; charset=iso-8859-1"])
def test_error_of_a_body_in_another_encoding_says_so(shared_app: Flask, encoding: str, charset: str) -> None:
    body = '{"username":"z\xfcrich","password":"x"}'.encode(encoding)
    response = login(shared_app, body, {"Content-Type": f"application/json{charset}"})
    assert (response.status, response.code) == (400, "invalid_request")
    assert ENCODINGS[encoding] in response.json["message"]


def test_byte_order_mark_is_ignored(app: Flask) -> None:
    create_user(app)
    assert login(app, b"\xef\xbb\xbf" + ALICE).status == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "gzip, identity"])
def test_compressed_body_gets_an_error_that_says_so(shared_app: Flask, coding: str) -> None:
    response = login(shared_app, gzip.compress(ALICE), {**JSON, "Content-Encoding": coding})
    assert response.problem == (415, "unsupported_media_type", "The request body must not be compressed.")


WRONG_TYPES: Final[list[Any]] = [None, 0, 1, -1, 1.5, True, False, [], ["alice"], {}, {"$ne": None}, {"$gt": ""}]


@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
@pytest.mark.parametrize("field", ["username", "password"])
def test_value_of_another_type_is_rejected_and_its_field_named(shared_app: Flask, field: str, value: Any) -> None:
    response = login(shared_app, json.dumps(GOOD_LOGIN | {field: value}).encode())
    assert (response.status, response.code) == (400, "invalid_request")
    assert field in response.json["message"]


def test_error_never_repeats_what_was_sent(shared_app: Flask) -> None:
    marker = "Tr0ub4dor-and-3"
    bodies = (
        f'{{"username": "{marker}"}}',
        f'{{"username": ["{marker}"], "password": 1}}',
        f'{{"username": "{marker}\\u0000", "password": "{marker}"}}',
        f'{{"username": "{marker}", "password": {{"{marker}": 1}}}}',
        f'{{"username": "alice", "password": "{marker}"',
        marker,
        f'{{"username": "{marker}", "password": "{marker}"}}',
    )
    for body in bodies:
        assert marker not in login(shared_app, body.encode()).text


def test_unknown_fields_are_ignored(app: Flask) -> None:
    create_user(app)
    more = {"remember": True, "role": "admin", "__proto__": {"admin": True}, "": None, "big": 10**50, "x": [1.5, {}]}
    assert login(app, json.dumps(GOOD_LOGIN | more).encode()).status == 200


def test_last_of_two_fields_of_one_name_counts(shared_app: Flask) -> None:
    # As in JSON.parse: every reader of the body must see the same value.
    good = json.dumps(PASSWORD).encode()
    assert login(shared_app, b'{"username":"nobody","username":"alice","password":%s}' % good).status == 200
    assert login(shared_app, b'{"username":"alice","username":"nobody","password":%s}' % good).status == 401


def test_whitespace_around_the_object_is_ignored(shared_app: Flask) -> None:
    assert login(shared_app, b" \r\n\t" + ALICE + b"\n").status == 200


def test_characters_may_be_escaped(shared_app: Flask) -> None:
    escaped = "".join(f"\\u{ord(char):04x}" for char in PASSWORD)
    assert login(shared_app, f'{{"\\u0075sername":"alice","password":"{escaped}"}}'.encode()).status == 200


# Sizes


def test_body_of_16_kib_is_accepted_and_one_more_byte_is_rejected(shared_app: Flask) -> None:
    room = LIMIT - len(ALICE[:-1] + b',"x":""}')
    assert login(shared_app, ALICE[:-1] + b',"x":"' + b"y" * room + b'"}').status == 200
    response = login(shared_app, ALICE[:-1] + b',"x":"' + b"y" * (room + 1) + b'"}')
    assert response.problem == (413, "request_too_large", "The request body is larger than 16 KiB.")


LARGE: Final = {
    "user name of 1 MB": json.dumps(GOOD_LOGIN | {"username": "a" * 10**6}).encode(),
    "password of 1 MB": json.dumps(GOOD_LOGIN | {"password": "a" * 10**6}).encode(),
    "unknown field of 1 MB": json.dumps(GOOD_LOGIN | {"x": "a" * 10**6}).encode(),
    "arrays nested 100000 deep": b"[" * 100_000 + b"]" * 100_000,
    "objects nested 100000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "number of 1 MB": b'{"username":' + b"9" * 10**6 + b"}",
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("path", ["/api/login", "/api/token", "/api/logout"])
def test_large_body_is_rejected_on_every_route(shared_app: Flask, path: str, body: bytes) -> None:
    response = Client(shared_app).send("POST", path, body=body, headers=JSON)
    assert (response.status, response.code) == (413, "request_too_large")
    assert response.cookie is None


AMBIGUOUS: Final[Mapping[str, Mapping[str, Any]]] = {
    "two hosts": {"HTTP_HOST": "localhost,evil.example"},
    "two transfer codings": {"HTTP_TRANSFER_ENCODING": "chunked,chunked"},
    "truncated body": {"CONTENT_LENGTH": "1000", "wsgi.input_terminated": True},
}


@pytest.mark.parametrize("environ", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_ambiguous_request_that_some_servers_accept_is_rejected(shared_app: Flask, environ: Mapping[str, Any]) -> None:
    assert login(shared_app, ALICE).status == 200
    response = login(shared_app, ALICE, environ=environ)
    assert (response.status, response.code) == (400, "invalid_request")


# Lengths. The limits are those that the OpenAPI document states.

CHARACTERS: Final = ("x", "é", "\U0001f600")


def documented_length(app: Flask, field: str) -> int:
    """Return the greatest length of a field of the sign-in body, as documented."""
    schemas = Client(app).send("GET", "/openapi.json").json["components"]["schemas"]
    return int(schemas[LoginBody.__name__]["properties"][field]["maxLength"])


@pytest.mark.parametrize("character", CHARACTERS)
@pytest.mark.parametrize("field", ["username", "password"])
def test_value_of_the_documented_length_is_accepted(app: Flask, field: str, character: str) -> None:
    value = character * documented_length(app, field)
    assert login(app, json.dumps(GOOD_LOGIN | {field: value}).encode()).problem == INVALID_CREDENTIALS
    assert stored.failed_attempts(app) == 1


@pytest.mark.parametrize("character", CHARACTERS)
@pytest.mark.parametrize("field", ["username", "password"])
def test_one_more_character_is_rejected_and_the_field_named(app: Flask, field: str, character: str) -> None:
    value = character * (documented_length(app, field) + 1)
    response = login(app, json.dumps(GOOD_LOGIN | {field: value}).encode())
    assert (response.status, response.code) == (400, "invalid_request")
    assert field in response.json["message"]
    assert stored.failed_attempts(app) == 0


def test_documented_lengths_are_in_characters(shared_app: Flask) -> None:
    assert documented_length(shared_app, "username") == 1024
    assert documented_length(shared_app, "password") == 1024


def test_user_name_of_200_two_byte_characters_is_looked_up(app: Flask) -> None:
    assert Client(app).login("é" * 200).problem == INVALID_CREDENTIALS


def test_user_name_that_grows_in_its_canonical_form_is_looked_up(app: Flask) -> None:
    # NFKC turns this character into 18.
    assert Client(app).login("\ufdfa" * 1024).problem == INVALID_CREDENTIALS


def test_value_that_is_too_long_is_rejected_before_a_password_is_hashed(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(databases("sqlite"))
    queued: list[int] = []
    monkeypatch.setattr(passwords.watch, "queue", queued.append)
    for field, length in (("username", 1025), ("password", 1025)):
        body = json.dumps(GOOD_LOGIN | {field: "x" * length}).encode()
        calls = count_calls(app, "POST", "/api/login", JSON, body)
        assert calls.status == "400 BAD REQUEST"
        assert "sign_in.py" not in calls.files
        assert queued == []


UNUSUAL_NAMES: Final = (
    *("", " ", "\t", "\u200b", "\u202e", "\x01", "\x7f", "\ufeff", "\ufdfa" * 80, "\U0010ffff"),
    *("'; DROP TABLE users; --", "%", "alice%", "' OR ''='", "${jndi:ldap://x}", "{{7*7}}", "../passwd"),
)


def test_unusual_username_is_treated_as_unknown(app: Flask) -> None:
    create_user(app)
    for name in UNUSUAL_NAMES:
        assert Client(app).login(name).problem == INVALID_CREDENTIALS


# Content types

JSON_TYPES: Final = [
    "application/json",
    "APPLICATION/JSON",
    "application/json; charset=utf-8",
    "application/json;charset=UTF-8",
    "application/json ; charset=utf-8",
]


@pytest.mark.parametrize("content_type", JSON_TYPES)
def test_json_content_type_is_accepted_in_every_spelling(shared_app: Flask, content_type: str) -> None:
    assert login(shared_app, ALICE, {"Content-Type": content_type}).status == 200


OTHER_TYPES: Final = [
    None,
    "",
    "text/plain",
    "text/plain; application/json",
    "text/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "application/json5",
    "application/json, text/plain",
    "application/problem+json",
    "application",
    "json",
    "*/*",
    "application/ json",
    "xapplication/json",
]


@pytest.mark.parametrize("content_type", OTHER_TYPES, ids=repr)
def test_other_content_type_is_rejected_and_changes_nothing(shared_app: Flask, content_type: str | None) -> None:
    before = stored.sessions(shared_app)
    response = login(shared_app, ALICE, {} if content_type is None else {"Content-Type": content_type})
    assert response.problem == (415, "unsupported_media_type", "The request body must be application/json.")
    assert stored.sessions(shared_app) == before


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json", "multipart/form-data; boundary=x"])
def test_routes_without_a_body_ignore_one(app: Flask, content_type: str | None) -> None:
    create_user(app)
    client = sign_in(app)
    headers = {} if content_type is None else {"Content-Type": content_type}
    assert client.refresh(body=b'{"x":', headers=headers).status == 200
    assert client.logout(body=b'{"x":', headers=headers).status == 204


def test_no_secret_that_was_sent_is_logged(app: Flask, capfd: pytest.CaptureFixture[str]) -> None:
    marker = "Tr0ub4dor-and-3"
    issued = issue(app)
    client = Client(app)
    for body in (GOOD_LOGIN | {"password": marker}, {"username": marker, "password": 1}, marker, [marker]):
        client.send("POST", f"/api/login?password={marker}", payload=body)
    client.send("POST", "/api/token", headers={"Cookie": f"refreshToken={marker}; x={marker}"})
    client.send("GET", f"/api/protected?access_token={marker}", bearer=marker)
    client.send("GET", "/api/protected", headers={"Authorization": f"Basic {marker}", "X-Request-ID": f"<{marker}>"})
    client.refresh(issued.with_claims("refresh", jti=marker, gen=9))
    client.protected(issued.with_claims("access", username=marker))
    client.logout(issued.good["access"])
    logged = capfd.readouterr().err
    assert logged.count("\n") > 5
    assert marker not in logged
    assert issued.good["access"] not in logged
