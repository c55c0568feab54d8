"""Introspection (RFC 7662) and revocation (RFC 7009) of tokens by other services."""

from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import create_user
from tests.support.client import Client, Response, claims_of, sign_in
from tests.support.service_clients import INACTIVE, ServiceClient, basic, register
from tokenapp import accounts, db, keys, sessions
from tokenapp.models import Session

ROUTES: Final = ["/api/introspect", "/api/revoke"]
TOO_LARGE: Final = b"token=" + b"x" * (16 * 1024)
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
both_routes = pytest.mark.parametrize("path", ROUTES)


@pytest.fixture
def client(app: Flask) -> Client:
    """Return a signed-in client."""
    create_user(app)
    return sign_in(app)


@pytest.fixture
def service(app: Flask) -> ServiceClient:
    """Return another service with client credentials."""
    return register(app)


def assert_oauth_error(response: Response, status: int, error: str) -> None:
    """Check that `response` is an error of RFC 6749, 5.2."""
    assert (response.status, response.header("Content-Type")) == (status, "application/json"), response.text
    assert set(response.json) == {"error", "error_description"}
    assert response.json["error"] == error
    assert response.header("Cache-Control") == "no-store"
    challenge = 'Basic realm="tokenapp-api"' if status == 401 else None
    assert response.header("WWW-Authenticate") == challenge


# Introspection


def test_active_token_is_described_by_its_claims(client: Client, service: ServiceClient) -> None:
    token = client.token or ""
    described, claims = service.post("/api/introspect", token=token).json, claims_of(token)
    assert (described["active"], described["token_type"]) == (True, "Bearer")
    for name in ("iss", "sub", "aud", "exp", "iat", "jti", "sid"):
        assert described[name] == claims[name]


def log_out(client: Client, _app: Flask) -> None:
    client.send("POST", "/api/logout", cookie=client.cookie)


def disable(_client: Client, app: Flask) -> None:
    with app.app_context():
        accounts.disable(accounts.find("alice"), datetime.now(UTC))


def change_password(_client: Client, app: Flask) -> None:
    with app.app_context():
        accounts.set_password(accounts.find("alice"), "another long pass phrase", datetime.now(UTC))


def retire_keys(_client: Client, app: Flask) -> None:
    with app.app_context():
        for info in keys.lifecycle.list_keys(datetime.now(UTC)):
            keys.lifecycle.retire(info.kid, datetime.now(UTC), at_once=True)


def expire(_client: Client, app: Flask) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with app.app_context():
        db.execute_now(sa.update(Session).values(expires_at=past, ends_at=past))


@pytest.mark.parametrize("end", [log_out, disable, change_password, retire_keys, expire])
def test_token_is_inactive_at_once_when_it_ends(
    app: Flask, client: Client, service: ServiceClient, end: Callable[[Client, Flask], None]
) -> None:
    token = client.token
    assert service.is_active(token)
    end(client, app)
    assert not service.is_active(token)


@pytest.mark.parametrize("token", ["x", "a.b.c", "é", "x" * 9000])
def test_malformed_token_is_inactive(service: ServiceClient, token: str) -> None:
    assert service.post("/api/introspect", token=token).body == INACTIVE


def test_refresh_token_is_inactive_before_and_after_its_replacement(client: Client, service: ServiceClient) -> None:
    replaced = client.cookie
    assert service.post("/api/introspect", token=replaced or "").body == INACTIVE
    assert client.refresh().status == 200
    assert not service.is_active(replaced)
    assert not service.is_active(client.cookie)
    assert client.refresh(replaced).status == 200, "introspection changes nothing: the grace period is not over"


@one_database
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense", ""])
def test_token_type_hint_is_ignored(client: Client, service: ServiceClient, hint: str) -> None:
    for token, active in ((client.token or "", True), (client.cookie or "", False)):
        response = service.post("/api/introspect", token=token, token_type_hint=hint, other="x")
        assert response.body == service.post("/api/introspect", token=token).body
        assert response.json["active"] is active


# Revocation


@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_revocation_revokes_the_session_of_either_token(
    app: Flask, client: Client, service: ServiceClient, kind: str
) -> None:
    token = client.token if kind == "access" else client.cookie
    assert service.post("/api/revoke", token=token or "").body == b"{}"
    assert client.refresh().status == 403
    with app.app_context():
        row = sessions.get(client.sid)
    assert row is not None
    assert row.revoked_reason == "revoked_by_client"


def test_response_to_a_revocation_does_not_reveal_whether_there_was_a_session(
    client: Client, service: ServiceClient
) -> None:
    known, unknown = (service.post("/api/revoke", token=token) for token in (client.token or "", "x"))
    assert (known.status, known.body) == (unknown.status, unknown.body) == (200, b"{}")


# Credentials


@both_routes
def test_wrong_credentials_reveal_and_change_nothing(client: Client, service: ServiceClient, path: str) -> None:
    form = {"token": client.token or ""}
    for name, secret in (
        (service.id, "wrong"),
        ("nobody", service.secret),
        (service.secret, service.id),
        (service.id, ""),
    ):
        response = client.send("POST", path, form=form, headers=basic(name, secret))
        assert_oauth_error(response, 401, "invalid_client")
    assert_oauth_error(client.send("POST", path, form=form), 401, "invalid_client")
    assert service.is_active(client.token)


def encoded(credentials: bytes) -> str:
    return "Basic " + b64encode(credentials).decode()


MALFORMED_CREDENTIALS: Final = [
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
]


@one_database
@pytest.mark.parametrize("authorization", MALFORMED_CREDENTIALS)
def test_malformed_credentials_are_invalid(client: Client, service: ServiceClient, authorization: str) -> None:
    headers = {"Authorization": authorization.encode().decode("latin-1")}
    for method, path in (("POST", "/api/introspect"), ("POST", "/api/revoke"), ("GET", "/api/revocations")):
        response = client.send(method, path, form={"token": client.token or ""}, headers=headers)
        assert_oauth_error(response, 401, "invalid_client")
    assert service.is_active(client.token)
    assert client.refresh().status == 200


@one_database
@both_routes
def test_two_credentials_are_rejected(client: Client, service: ServiceClient, path: str) -> None:
    form = {"token": client.token or ""}
    both = ", ".join([service.credentials["Authorization"]] * 2)
    response = client.send("POST", path, form=form, headers={"Authorization": both})
    assert_oauth_error(response, 401, "invalid_client")
    for more in ({"client_id": service.id, "client_secret": service.secret}, {"client_assertion": "x"}):
        assert_oauth_error(service.post(path, **form, **more), 400, "invalid_request")
    assert service.is_active(client.token)


@one_database
@both_routes
def test_credentials_in_the_body_are_not_accepted(client: Client, service: ServiceClient, path: str) -> None:
    form = {"token": client.token or "", "client_id": service.id, "client_secret": service.secret}
    assert_oauth_error(client.send("POST", path, form=form), 401, "invalid_client")
    assert service.is_active(client.token)


# Forms


@both_routes
@pytest.mark.parametrize("body", [b"", b"token=", b"token=a&token=b", b"other=1", b"token=%ff"])
def test_form_without_exactly_one_token_is_an_invalid_request(service: ServiceClient, path: str, body: bytes) -> None:
    response = service.http.send("POST", path, body=body, headers=FORM | service.credentials)
    assert_oauth_error(response, 400, "invalid_request")


@one_database
@both_routes
@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "multipart/form-data; boundary=x"])
def test_other_content_type_is_an_invalid_request(service: ServiceClient, path: str, content_type: str | None) -> None:
    headers = service.credentials | ({} if content_type is None else {"Content-Type": content_type})
    assert_oauth_error(service.http.send("POST", path, body=b"token=x", headers=headers), 400, "invalid_request")


@one_database
@both_routes
def test_json_is_an_invalid_request(service: ServiceClient, path: str) -> None:
    response = service.http.send("POST", path, payload={"token": "x"}, headers=service.credentials)
    assert_oauth_error(response, 400, "invalid_request")


@one_database
@both_routes
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_body_over_16_kib_is_rejected(service: ServiceClient, path: str, framing: str) -> None:
    chunked = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    environ = chunked if framing == "chunked" else None
    headers = FORM | service.credentials
    assert service.http.send("POST", path, body=TOO_LARGE, headers=headers, environ=environ).status == 413
