"""What all errors have in common: problem+json, request id, no caching."""

import secrets
from collections.abc import Iterator
from typing import Final

import pytest
import sqlalchemy as sa
from flask import Flask
from flask import Response as FlaskResponse

from tests.conftest import Databases
from tests.support.app import create_user, make_app
from tests.support.client import Client, Response, sign_in
from tokenapp import db
from tokenapp.models import Session

GOOD_IDS: Final = ["a", "0123456789abcdef", "a-Request.1", "A-Z_a.z~+/=", "x" * 128]
BAD_IDS: Final = ["", " ", "a b", "x" * 129, "é", "<script>", "a;b", '"', 'a"b', "a\tb", "a,b", "%0d%0a", "\xff"]


@pytest.mark.parametrize("given", GOOD_IDS)
def test_well_formed_request_id_is_returned(shared: Client, given: str) -> None:
    response = shared.send("GET", "/nothing", headers={"X-Request-ID": given})
    assert response.header("X-Request-ID") == response.json["requestId"] == given


@pytest.mark.parametrize("given", BAD_IDS, ids=repr)
def test_malformed_request_id_is_replaced(shared: Client, given: str) -> None:
    seen = set()
    for _ in range(2):
        response = shared.send("GET", "/nothing", headers={"X-Request-ID": given})
        assert response.header("X-Request-ID") == response.json["requestId"]
        seen.add(response.header("X-Request-ID"))
    assert len(seen) == 2
    assert given not in seen


@pytest.fixture(scope="module")
def responses(shared_app: Flask, shared: Client) -> list[tuple[str, Response]]:
    """Return one error of each kind that a request alone can cause, with its code."""
    return [*errors_of(shared_app, shared)]


def errors_of(app: Flask, client: Client) -> Iterator[tuple[str, Response]]:
    """Cause one error after the other."""
    login = "/api/login"
    yield "invalid_request", client.send("POST", login, payload={})
    yield "invalid_request", Client(app).login(headers={"Host": "x" * 300})
    yield "invalid_request", client.send("GET", "/api/protected", bearer="one, Bearer two")
    yield "unsupported_media_type", client.send("POST", login, body=b"{}", headers={"Content-Type": "text/plain"})
    yield "request_too_large", client.send("POST", login, body=b" " * (16 * 1024 + 1))
    yield "invalid_credentials", Client(app).login(password="x")
    yield "refresh_token_missing", client.send("POST", "/api/token")
    yield "refresh_token_revoked", client.send("POST", "/api/token", cookie="bad")
    yield "refresh_token_expired", expired(app).refresh()
    yield "access_token_missing", client.send("GET", "/api/protected")
    yield "access_token_invalid", client.send("GET", "/api/protected", bearer="bad")
    yield "cross_site_request", client.send("POST", "/api/token", headers={"Sec-Fetch-Site": "cross-site"})
    yield "not_found", client.send("GET", "/api/nothing")
    yield "method_not_allowed", client.send("GET", "/api/token", cookie=client.cookie)


def expired(app: Flask) -> Client:
    """Return a client whose session has expired."""
    client = sign_in(app)
    with app.app_context():
        db.execute_now(sa.update(Session).where(Session.id == client.sid).values(expires_at=Session.created_at))
    return client


def test_every_error_is_a_complete_problem(responses: list[tuple[str, Response]]) -> None:
    for code, response in responses:
        assert response.header("Content-Type") == "application/problem+json"
        problem = response.json
        assert set(problem) == {"type", "title", "status", "detail", "code", "message", "requestId"}
        assert problem["code"] == code
        assert problem["status"] == response.status >= 400
        assert problem["detail"] == problem["message"]
        assert problem["type"] == f"urn:tokenapp:error:{code}"
        assert problem["title"].lower().replace(" ", "_") == code
        assert problem["requestId"] == response.header("X-Request-ID")


def test_no_response_of_the_api_may_be_stored(shared: Client, responses: list[tuple[str, Response]]) -> None:
    other = Client(shared.target)
    for response in (
        other.login(),
        other.refresh(),
        other.protected(),
        other.logout(),
        *(error for _, error in responses),
    ):
        assert response.all("Cache-Control") == ["no-store"]


def test_no_error_sets_or_clears_the_refresh_cookie(responses: list[tuple[str, Response]]) -> None:
    for _, response in responses:
        assert response.all("Set-Cookie") == []


def test_database_fault_is_503_and_the_cookie_stays_valid(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE sessions RENAME TO elsewhere"))
    for response in (client.refresh(), client.logout()):
        assert (response.status, response.code) == (503, "service_unavailable")
        assert int(response.header("Retry-After") or 0) > 0
        assert response.all("Set-Cookie") == []
        assert response.header("Cache-Control") == "no-store"
    with app.app_context():
        db.execute_now(sa.text("ALTER TABLE elsewhere RENAME TO sessions"))
    assert client.refresh().status == 200


def test_internal_error_reveals_nothing(databases: Databases) -> None:
    app = make_app(databases("sqlite"))
    secret = secrets.token_hex()

    def broken() -> FlaskResponse:
        raise RuntimeError(secret)

    app.add_url_rule("/api/broken", view_func=broken)
    response = Client(app).send("GET", "/api/broken")
    assert response.problem == (500, "internal_error", "An internal error occurred.")
    assert secret not in response.text
    assert "Traceback" not in response.text
    assert response.header("Cache-Control") == "no-store"
