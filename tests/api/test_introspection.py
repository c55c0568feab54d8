"""Introspection, revocation and the feed against requests that are odd, and a database that is away."""

import io
from base64 import b64encode

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.api.test_oauth import DEAD, Party, basic
from tests.conftest import Databases
from tests.support.app import make_app
from tests.support.server import free_port

FORMS = pytest.mark.parametrize("path", ["/api/introspect", "/api/revoke"])
TOO_MUCH = b"token=" + b"x" * (16 * 1024)


@pytest.fixture
def party(databases: Databases) -> Party:
    """Give a user who is signed in, and a client: how requests are read does not depend on the database."""
    return Party(make_app(databases("sqlite")))


def encoded(credentials: bytes) -> str:
    return "Basic " + b64encode(credentials).decode()


def assert_oauth_error(reply: TestResponse, status: int, error: str) -> None:
    """Show that `reply` is an error as RFC 6749, 5.2 has it."""
    assert (reply.status_code, reply.mimetype) == (status, "application/json"), reply.text
    assert reply.json is not None
    assert set(reply.json) == {"error", "error_description"}
    assert reply.json["error"] == error
    assert reply.headers["Cache-Control"] == "no-store"
    challenge = reply.headers.get("WWW-Authenticate")
    assert challenge == ('Basic realm="tokenapp-api"' if status == 401 else None)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic é",
        "Basic ====",
        "Basic a",
        encoded(b""),
        encoded(b":"),
        encoded(b"nocolon"),
        encoded(b"client-x:\x00"),
        encoded("clïent:sécret".encode()),
        encoded(b"\xff\xfe:\xff"),
        encoded(b"a:" + b"x" * 5000),
        "Bearer x",
        "Negotiate x",
    ],
)
def test_credentials_of_any_odd_form_are_those_of_no_client(party: Party, authorization: str) -> None:
    sent = authorization.encode().decode("latin-1")
    for method, path in (("POST", "/api/introspect"), ("POST", "/api/revoke"), ("GET", "/api/revocations")):
        reply = party.http.open(path, method=method, data={"token": party.access}, headers={"Authorization": sent})
        assert_oauth_error(reply, 401, "invalid_client")
    assert party.introspect(party.refresh) != DEAD


@FORMS
def test_of_two_credentials_neither_counts(party: Party, path: str) -> None:
    (both,) = basic(*party.credentials).values()
    twice = party.http.post(path, data={"token": party.access}, headers={"Authorization": f"{both}, {both}"})
    assert_oauth_error(twice, 401, "invalid_client")
    client, secret = party.credentials
    for form in ({"client_id": client, "client_secret": secret}, {"client_assertion": "x"}):
        reply = party.http.post(path, data={"token": party.access, **form}, headers=basic(client, secret))
        assert_oauth_error(reply, 400, "invalid_request")
    assert party.introspect(party.access) != DEAD


@FORMS
def test_credentials_in_the_body_alone_are_not_looked_at(party: Party, path: str) -> None:
    client, secret = party.credentials
    form = {"token": party.access, "client_id": client, "client_secret": secret}
    assert_oauth_error(party.http.post(path, data=form), 401, "invalid_client")
    assert party.introspect(party.access) != DEAD


@FORMS
@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "multipart/form-data; boundary=x"])
def test_only_a_form_is_read(party: Party, path: str, content_type: str | None) -> None:
    body = f"token={party.access}".encode()
    reply = party.http.post(path, data=body, content_type=content_type, headers=basic(*party.credentials))
    assert_oauth_error(reply, 400, "invalid_request")


@FORMS
def test_a_body_over_16_kib_is_refused_however_it_is_sent(party: Party, path: str) -> None:
    headers = basic(*party.credentials) | {"Content-Type": "application/x-www-form-urlencoded"}
    assert party.http.post(path, data=TOO_MUCH, headers=headers).status_code == 413
    chunked = party.http.post(
        path, input_stream=io.BytesIO(TOO_MUCH), headers=headers, environ_overrides={"wsgi.input_terminated": True}
    )
    assert chunked.status_code == 413


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense", ""])
def test_the_hint_makes_no_difference(party: Party, hint: str) -> None:
    for token in (party.access, party.refresh):
        form = {"token": token, "token_type_hint": hint, "other": "x"}
        reply = party.http.post("/api/introspect", data=form, headers=basic(*party.credentials))
        assert reply.data == party.introspect(token) != DEAD


@pytest.mark.parametrize(
    "since", ["", "x", "1~\x00", "1~a b", "-1~", "1", "99999999999999999~", "\u0661~", "1~" + "x" * 65]
)
def test_a_cursor_that_is_not_ours_is_an_invalid_request(party: Party, since: str) -> None:
    reply = party.http.get("/api/revocations", query_string={"since": since}, headers=basic(*party.credentials))
    assert_oauth_error(reply, 400, "invalid_request")


@pytest.mark.parametrize("since", ["0~", "9999999999999999~", "0000000000000000~zzz"])
def test_any_cursor_of_the_right_form_is_answered(app: Flask, since: str) -> None:
    party = Party(app)
    reply = party.http.get("/api/revocations", query_string={"since": since}, headers=basic(*party.credentials))
    assert reply.status_code == 200


def test_while_the_database_is_away_the_answer_is_503_and_no_verdict() -> None:
    away = make_app(f"postgresql://nobody@127.0.0.1:{free_port()}/nothing").test_client()
    headers = basic("client-x", "secret")
    for reply in (
        away.post("/api/introspect", data={"token": "x"}, headers=headers),
        away.post("/api/revoke", data={"token": "x"}, headers=headers),
        away.get("/api/revocations", headers=headers),
    ):
        assert (reply.status_code, reply.mimetype) == (503, "application/problem+json")
        assert "Retry-After" in reply.headers
