"""The core routes: sign in, refresh, sign out, and the protected route.

Each test runs in development and in production. The paths, the messages and the statuses are those of the Express
program that this service replaces.
"""

import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any, Final

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import ISSUER, PASSWORD, PRODUCTION, application, create_user
from tests.support.client import Client, Response, claims_of
from tokenapp import db
from tokenapp.models import User

ATTRIBUTES: Final = {
    "refreshToken": {"httponly", "samesite=Strict", "path=/"},
    "__Host-refreshToken": {"httponly", "samesite=Strict", "path=/", "secure"},
}
SIGN_IN: Final = {"username": "alice", "password": PASSWORD}
SIGNED_IN: Final = {"tokenType": "Bearer", "expiresIn": 900, "message": "Logged in successfully."}
REFRESHED: Final = {"tokenType": "Bearer", "expiresIn": 900}
REVOKED: Final = (403, "refresh_token_revoked", "Refresh token invalid or revoked.")
MISSING: Final = (401, "refresh_token_missing", "Refresh token not found.")


@pytest.fixture(params=["development", "production"])
def app(request: pytest.FixtureRequest, database_url: str) -> Iterator[Flask]:
    """Return the application with one user, in development and in production."""
    with application(database_url, **(PRODUCTION if request.param == "production" else {})) as app:
        create_user(app)
        yield app


@pytest.fixture
def client(app: Flask) -> Client:
    """Return a client that is not signed in."""
    return client_of(app)


def client_of(app: Flask) -> Client:
    return Client(app, cookie_name=app.config["TOKENAPP"].cookie_name)


def signed_in(app: Flask) -> Client:
    """Return a new client that is signed in."""
    client = client_of(app)
    assert client.login().status == 200
    return client


def cookie_of(client: Client, response: Response) -> tuple[str, str, str]:
    """Check the one cookie of `response`; return its value, Max-Age and Expires."""
    [line] = response.all("Set-Cookie")
    [(name, cookie)] = SimpleCookie(line).items()
    assert name == client.cookie_name
    given = {key if cookie[key] is True else f"{key}={cookie[key]}" for key in cookie if cookie[key]}
    lifetime = {each for each in given if each.startswith(("max-age", "expires"))}
    assert given - lifetime == ATTRIBUTES[name]
    return cookie.value, cookie["max-age"], cookie["expires"]


def assert_problem(response: Response, status: int, code: str, message: str) -> None:
    """Check that `response` is exactly that error and does not touch the cookie."""
    assert response.status == status
    assert response.header("Content-Type") == "application/problem+json"
    assert response.json == {
        "type": f"urn:tokenapp:error:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": message,
        "code": code,
        "message": message,
        "requestId": response.header("X-Request-ID"),
    }
    assert response.all("Set-Cookie") == []


# POST /api/login


def test_login_returns_an_access_token_and_sets_the_cookie(client: Client) -> None:
    response = client.login()
    assert response.status == 200
    assert response.header("Content-Type") == "application/json"
    body = response.json
    assert list(body) == ["accessToken", "tokenType", "expiresIn", "message"]
    assert {name: value for name, value in body.items() if name != "accessToken"} == SIGNED_IN
    assert claims_of(body["accessToken"])["username"] == "alice"
    assert claims_of(cookie_of(client, response)[0])["sid"] == claims_of(body["accessToken"])["sid"]


def test_cookie_expires_with_its_token(client: Client) -> None:
    began = int(time.time())
    token, max_age, _ = cookie_of(client, client.login())
    assert max_age == "604800"
    assert claims_of(token)["exp"] - claims_of(token)["iat"] == 604800
    assert began <= claims_of(token)["iat"] <= time.time()


def test_access_token_states_the_end_of_its_session(client: Client) -> None:
    login = client.login()
    claims = claims_of(login.json["accessToken"])
    assert claims["session_expiry"] - claims["auth_time"] == 30 * 24 * 3600
    assert claims_of(client.refresh().json["accessToken"])["session_expiry"] == claims["session_expiry"]


def test_user_name_is_accepted_in_every_spelling(client: Client) -> None:
    for username in ("ALICE", " alice ", "Alice", "\uff41lice"):
        assert claims_of(client.login(username).json["accessToken"])["username"] == "alice"


BAD_SIGN_INS: Final = (
    {"password": "wrong"},
    {"password": ""},
    {"password": PASSWORD.upper()},
    {"password": PASSWORD + " "},
    {"username": "mallory"},
    {"username": ""},
    {"username": "", "password": ""},
)


def test_invalid_credentials_are_401(client: Client) -> None:
    for change in BAD_SIGN_INS:
        response = client.send("POST", "/api/login", payload=SIGN_IN | change)
        assert_problem(response, 401, "invalid_credentials", "Invalid credentials.")


def test_unknown_user_wrong_password_and_disabled_user_get_the_same_bytes(app: Flask, client: Client) -> None:
    create_user(app, "gone")
    with app.app_context():
        db.execute_now(sa.update(User).where(User.username == "gone").values(disabled_at=sa.func.current_timestamp()))
    responses = set()
    for username, password in (("alice", "wrong"), ("nobody", "wrong"), ("gone", PASSWORD), ("gone", "wrong")):
        response = client.login(username, password, headers={"X-Request-ID": "same"})
        # The rate limit counts down whether or not the user exists.
        headers = [field for field in response.headers if not field[0].startswith("RateLimit-")]
        responses.add((response.status, str(headers), response.body))
    assert len(responses) == 1


def test_login_without_user_name_or_password_is_an_invalid_request(client: Client) -> None:
    bodies: list[Any] = [
        {},
        {"username": "alice"},
        {"password": "x"},
        [],
        "alice",
        1,
        {"username": None, "password": 1},
    ]
    for body in bodies:
        response = client.send("POST", "/api/login", payload=body)
        assert_problem(response, 400, "invalid_request", response.json["message"])


def test_login_with_a_form_is_an_unsupported_media_type(client: Client) -> None:
    response = client.send("POST", "/api/login", form=SIGN_IN)
    assert_problem(response, 415, "unsupported_media_type", "The request body must be application/json.")


def test_login_revokes_the_session_of_the_cookie_and_no_other(app: Flask, client: Client) -> None:
    first, second = signed_in(app), signed_in(app)
    assert client.login(cookie=first.cookie).status == 200
    assert first.refresh().status == 403
    assert second.refresh().status == 200


def test_failed_login_does_not_revoke_the_session_of_the_cookie(app: Flask) -> None:
    client = signed_in(app)
    assert client.login(password="wrong", cookie=client.cookie).status == 401
    assert client.send("POST", "/api/login", payload={}, cookie=client.cookie).status == 400
    assert client.refresh().status == 200


def test_login_ignores_an_invalid_cookie(client: Client) -> None:
    assert client.login(cookie="bad").status == 200


# POST /api/token


def test_refresh_returns_an_access_token_and_rotates_the_cookie(app: Flask) -> None:
    client = signed_in(app)
    access, cookie = client.token, client.cookie or ""
    response = client.refresh()
    assert response.status == 200
    assert response.header("Content-Type") == "application/json"
    body = response.json
    assert list(body) == ["accessToken", "tokenType", "expiresIn"]
    assert {name: value for name, value in body.items() if name != "accessToken"} == REFRESHED
    assert body["accessToken"] != access
    token, max_age, _ = cookie_of(client, response)
    assert max_age == "604800"
    assert claims_of(token)["jti"] != claims_of(cookie)["jti"]
    assert claims_of(token)["sid"] == claims_of(cookie)["sid"]


def test_retried_refresh_gets_the_same_refresh_token(app: Flask) -> None:
    client = signed_in(app)
    cookie = client.cookie
    tokens = [cookie_of(client, client.refresh(cookie))[0] for _ in range(3)]
    assert len({claims_of(token)["jti"] for token in tokens}) == 1


def test_refresh_without_a_cookie_is_401(client: Client) -> None:
    for cookie in (None, ""):
        assert_problem(client.refresh(cookie), *MISSING)


def test_refresh_with_an_invalid_cookie_is_403(app: Flask) -> None:
    client = signed_in(app)
    access, cookie = client.token, client.cookie or ""
    for bad in ("bad", access, cookie[:-2], cookie + "A", "null"):
        assert_problem(client.refresh(bad), *REVOKED)


def test_refresh_of_an_expired_session_is_403(app: Flask) -> None:
    client = signed_in(app)
    with app.app_context():
        db.execute_now(sa.text("UPDATE sessions SET expires_at = created_at"))
    assert_problem(client.refresh(), 403, "refresh_token_expired", "Refresh token invalid or expired.")


def test_cookie_name_of_the_other_environment_is_ignored(app: Flask) -> None:
    client = signed_in(app)
    [other] = {*ATTRIBUTES} - {client.cookie_name}
    response = client.send("POST", "/api/token", headers={"Cookie": f"{other}={client.cookie}"})
    assert_problem(response, *MISSING)


# POST /api/logout


def assert_signed_out(client: Client, response: Response) -> None:
    """Check that `response` is the only one that the route has."""
    assert response.status == 204
    assert response.body == b""
    assert response.header("Content-Type") is None
    assert cookie_of(client, response) == ("", "", "Thu, 01 Jan 1970 00:00:00 GMT")


def test_logout_revokes_the_session_of_the_cookie_and_clears_the_cookie(app: Flask) -> None:
    client = signed_in(app)
    cookie = client.cookie
    assert_signed_out(client, client.logout())
    assert_problem(client.refresh(cookie), *REVOKED)


def test_logout_without_a_cookie_revokes_the_session_of_the_access_token(app: Flask) -> None:
    client = signed_in(app)
    assert_signed_out(client, client.send("POST", "/api/logout", bearer=client.token))
    assert client.refresh().status == 403


def test_logout_is_204_whether_or_not_there_was_a_session(app: Flask) -> None:
    client = signed_in(app)
    cookie = client.cookie
    for given in (cookie, cookie, None, "", "bad"):
        assert_signed_out(client, client.logout(given))


def test_logout_does_not_revoke_other_sessions(app: Flask) -> None:
    first, second = signed_in(app), signed_in(app)
    assert_signed_out(first, first.logout())
    assert second.refresh().status == 200


# GET /api/protected


def test_valid_access_token_is_accepted(app: Flask) -> None:
    response = signed_in(app).protected()
    assert response.status == 200
    assert response.header("Content-Type") == "application/json"
    assert response.json == {"message": "Welcome, alice! This is protected data."}
    assert response.all("Set-Cookie") == []


def test_missing_access_token_is_401(client: Client) -> None:
    response = client.protected()
    assert_problem(response, 401, "access_token_missing", "Access token required.")
    assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api"'


def test_invalid_access_token_is_403(app: Flask) -> None:
    client = signed_in(app)
    access, cookie = client.token or "", client.cookie
    for bad in ("bad", cookie, access[:-2], access + "A", "null", "undefined"):
        response = client.protected(bad)
        assert_problem(response, 403, "access_token_invalid", "Access token invalid or expired.")
        assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api", error="invalid_token"'


# A client of the Express program


def test_client_of_the_express_program_works_with_a_cookie_jar(app: Flask) -> None:
    browser = app.test_client()
    cookie_name = client_of(app).cookie_name
    base = ISSUER if cookie_name.startswith("__Host-") else "http://localhost:3005"
    for _ in range(2):
        reply = browser.post("/api/login", json=SIGN_IN, base_url=base)
        assert reply.get_json()["message"] == "Logged in successfully."
        for _ in range(3):
            bearer = {"Authorization": f"Bearer {reply.get_json()['accessToken']}"}
            assert browser.get("/api/protected", headers=bearer, base_url=base).status_code == 200
            reply = browser.post("/api/token", base_url=base)
            assert reply.status_code == 200
        assert browser.post("/api/logout", base_url=base).status_code == 204
        assert browser.get_cookie(cookie_name) is None
        reply = browser.post("/api/token", base_url=base)
        assert reply.get_json()["message"] == "Refresh token not found."
