"""The routes of the Express program that this service replaces: its requests, and our answers word for word.

What a client of that program sends, and reads, is here as one table; it holds in development and in production alike,
but for the cookie's name and its `Secure`.
"""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any, Final

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from tests.support.app import PASSWORD, create_user, make_app
from tests.support.client import claims_of
from tokenapp import db
from tokenapp.models import User

PRODUCTION: Final = {
    "TOKENAPP_ENV": "production",
    "TOKENAPP_ISSUER": "https://auth.example.com",
    "TOKENAPP_PASSWORD_MEMORY": "19456",
    "TOKENAPP_PASSWORD_PASSES": "2",
}
COOKIE: Final = {
    "development": ("refreshToken", {"httponly", "samesite=Strict", "path=/"}),
    "production": ("__Host-refreshToken", {"httponly", "samesite=Strict", "path=/", "secure"}),
}
SIGN_IN: Final = {"username": "alice", "password": PASSWORD}
SIGNED_IN: Final = {"tokenType": "Bearer", "expiresIn": 900, "message": "Logged in successfully."}
REFRESHED: Final = {"tokenType": "Bearer", "expiresIn": 900}


@dataclass(frozen=True)
class Wire:
    """The service as one client sees it; `name` and `attributes` are those of the refresh cookie."""

    app: Flask
    name: str
    attributes: set[str]

    def send(
        self, method: str, path: str, *, cookie: str | None = None, bearer: str | None = None, body: Any = None
    ) -> TestResponse:
        """Send a request as fetch or axios would."""
        headers = {} if cookie is None else {"Cookie": f"{self.name}={cookie}"}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        return self.app.test_client(use_cookies=False).open(path, method=method, headers=headers, json=body)

    def sign_in(self) -> tuple[str, str]:
        """Sign in; return the access token and the refresh token."""
        reply = self.send("POST", "/api/login", body=SIGN_IN)
        return reply.get_json()["accessToken"], self.cookie_set(reply)[0]

    def cookie_set(self, reply: TestResponse) -> tuple[str, str, str]:
        """Return value, Max-Age and Expires of the one cookie that `reply` sets; its attributes are as they must be."""
        [line] = reply.headers.getlist("Set-Cookie")
        [(name, cookie)] = SimpleCookie(line).items()
        assert name == self.name
        given = {key if cookie[key] is True else f"{key}={cookie[key]}" for key in cookie if cookie[key]}
        timing = {each for each in given if each.startswith(("max-age", "expires"))}
        assert given - timing == self.attributes
        return cookie.value, cookie["max-age"], cookie["expires"]


@pytest.fixture(params=COOKIE)
def wire(request: pytest.FixtureRequest, database_url: str) -> Iterator[Wire]:
    """Give the service with one user, in development and in production."""
    settings = PRODUCTION | {"SECRET_KEY": secrets.token_urlsafe(48)} if request.param == "production" else {}
    app = make_app(database_url, **settings)
    create_user(app)
    yield Wire(app, *COOKIE[request.param])
    with app.app_context():
        db.db.engine.dispose()


def assert_problem(reply: TestResponse, status: int, code: str, message: str) -> None:
    """Show that `reply` is that refusal, word for word, and leaves the cookie alone."""
    assert reply.status_code == status
    assert reply.content_type == "application/problem+json"
    assert reply.get_json() == {
        "type": f"urn:tokenapp:error:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": message,
        "code": code,
        "message": message,
        "requestId": reply.headers["X-Request-ID"],
    }
    assert "Set-Cookie" not in reply.headers


# POST /api/login


def test_signing_in_gives_an_access_token_and_the_cookie(wire: Wire) -> None:
    reply = wire.send("POST", "/api/login", body=SIGN_IN)
    assert reply.status_code == 200
    assert reply.content_type == "application/json"
    body = reply.get_json()
    assert list(body) == ["accessToken", "tokenType", "expiresIn", "message"]
    assert {name: value for name, value in body.items() if name != "accessToken"} == SIGNED_IN
    assert claims_of(body["accessToken"])["username"] == "alice"
    assert claims_of(wire.cookie_set(reply)[0])["sid"] == claims_of(body["accessToken"])["sid"]


def test_the_cookie_lives_as_long_as_the_token_in_it(wire: Wire) -> None:
    reply = wire.send("POST", "/api/login", body=SIGN_IN)
    token, max_age, _ = wire.cookie_set(reply)
    assert max_age == "604800"
    assert claims_of(token)["exp"] - claims_of(token)["iat"] == 604800
    assert 0 <= int(time.time()) - claims_of(token)["iat"] < 10


def test_a_name_is_known_in_every_spelling(wire: Wire) -> None:
    for username in ("ALICE", " alice ", "Alice", "\uff41lice"):
        reply = wire.send("POST", "/api/login", body=SIGN_IN | {"username": username})
        assert claims_of(reply.get_json()["accessToken"])["username"] == "alice"


BAD_SIGN_INS: Final = (
    {"password": "wrong"},
    {"password": ""},
    {"password": PASSWORD.upper()},
    {"password": PASSWORD + " "},
    {"username": "mallory"},
    {"username": ""},
    {"username": "", "password": ""},
)


def test_bad_credentials_are_answered_401(wire: Wire) -> None:
    for change in BAD_SIGN_INS:
        reply = wire.send("POST", "/api/login", body=SIGN_IN | change)
        assert_problem(reply, 401, "invalid_credentials", "Invalid credentials.")


def test_unknown_user_wrong_password_and_disabled_user_get_the_same_bytes(wire: Wire) -> None:
    create_user(wire.app, "gone")
    with wire.app.app_context():
        db.execute_now(sa.update(User).where(User.username == "gone").values(disabled_at=sa.func.current_timestamp()))
    answers = set()
    for username, password in (("alice", "wrong"), ("nobody", "wrong"), ("gone", PASSWORD), ("gone", "wrong")):
        client = wire.app.test_client(use_cookies=False)
        headers = {"X-Request-ID": "same"}
        reply = client.post("/api/login", json={"username": username, "password": password}, headers=headers)
        told = [field for field in reply.headers if not field[0].startswith("RateLimit-")]  # they count, whoever it is
        answers.add((reply.status, str(told), reply.data))
    assert len(answers) == 1


def test_a_sign_in_without_name_or_password_is_malformed(wire: Wire) -> None:
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
        reply = wire.send("POST", "/api/login", body=body)
        assert_problem(reply, 400, "invalid_request", reply.get_json()["message"])


def test_a_sign_in_as_a_form_is_refused(wire: Wire) -> None:
    reply = wire.app.test_client(use_cookies=False).post("/api/login", data=SIGN_IN)
    assert_problem(reply, 415, "unsupported_media_type", "The request body must be application/json.")


def test_signing_in_again_ends_the_session_of_the_cookie_and_no_other(wire: Wire) -> None:
    (_, first), (_, second) = wire.sign_in(), wire.sign_in()
    assert wire.send("POST", "/api/login", body=SIGN_IN, cookie=first).status_code == 200
    assert wire.send("POST", "/api/token", cookie=first).status_code == 403
    assert wire.send("POST", "/api/token", cookie=second).status_code == 200


def test_a_sign_in_that_fails_leaves_the_session_of_the_cookie_alone(wire: Wire) -> None:
    _, cookie = wire.sign_in()
    assert wire.send("POST", "/api/login", body=SIGN_IN | {"password": "wrong"}, cookie=cookie).status_code == 401
    assert wire.send("POST", "/api/login", body={}, cookie=cookie).status_code == 400
    assert wire.send("POST", "/api/token", cookie=cookie).status_code == 200


def test_a_bad_cookie_does_not_keep_anybody_from_signing_in(wire: Wire) -> None:
    assert wire.send("POST", "/api/login", body=SIGN_IN, cookie="bad").status_code == 200


# POST /api/token


def test_refreshing_gives_an_access_token_and_the_next_cookie(wire: Wire) -> None:
    access, cookie = wire.sign_in()
    reply = wire.send("POST", "/api/token", cookie=cookie)
    assert reply.status_code == 200
    assert reply.content_type == "application/json"
    body = reply.get_json()
    assert list(body) == ["accessToken", "tokenType", "expiresIn"]
    assert {name: value for name, value in body.items() if name != "accessToken"} == REFRESHED
    assert body["accessToken"] != access
    token, max_age, _ = wire.cookie_set(reply)
    assert max_age == "604800"
    assert claims_of(token)["jti"] != claims_of(cookie)["jti"]
    assert claims_of(token)["sid"] == claims_of(cookie)["sid"]


def test_a_retry_gets_the_same_cookie_again(wire: Wire) -> None:
    _, cookie = wire.sign_in()
    tokens = [wire.cookie_set(wire.send("POST", "/api/token", cookie=cookie))[0] for _ in range(3)]
    assert len({claims_of(token)["jti"] for token in tokens}) == 1


def test_refreshing_without_a_cookie_is_answered_401(wire: Wire) -> None:
    for cookie in (None, ""):
        reply = wire.send("POST", "/api/token", cookie=cookie)
        assert_problem(reply, 401, "refresh_token_missing", "Refresh token not found.")


def test_refreshing_with_anything_else_is_answered_403(wire: Wire) -> None:
    access, cookie = wire.sign_in()
    for bad in ("bad", access, cookie[:-2], cookie + "A", "null"):
        reply = wire.send("POST", "/api/token", cookie=bad)
        assert_problem(reply, 403, "refresh_token_revoked", "Refresh token invalid or revoked.")


def test_refreshing_past_the_session_s_time_is_answered_403(wire: Wire) -> None:
    _, cookie = wire.sign_in()
    with wire.app.app_context():
        db.execute_now(sa.text("UPDATE sessions SET expires_at = created_at"))
    reply = wire.send("POST", "/api/token", cookie=cookie)
    assert_problem(reply, 403, "refresh_token_expired", "Refresh token invalid or expired.")


def test_the_cookie_of_the_other_mode_is_not_looked_at(wire: Wire) -> None:
    _, cookie = wire.sign_in()
    [other] = {name for name, _ in COOKIE.values()} - {wire.name}
    reply = wire.app.test_client(use_cookies=False).post("/api/token", headers={"Cookie": f"{other}={cookie}"})
    assert_problem(reply, 401, "refresh_token_missing", "Refresh token not found.")


# POST /api/logout


def assert_signed_out(wire: Wire, reply: TestResponse) -> None:
    """Show that `reply` is the one answer of the route."""
    assert reply.status_code == 204
    assert reply.data == b""
    assert "Content-Type" not in reply.headers
    assert wire.cookie_set(reply) == ("", "", "Thu, 01 Jan 1970 00:00:00 GMT")


def test_signing_out_ends_the_session_of_the_cookie_and_takes_the_cookie_away(wire: Wire) -> None:
    _, cookie = wire.sign_in()
    assert_signed_out(wire, wire.send("POST", "/api/logout", cookie=cookie))
    reply = wire.send("POST", "/api/token", cookie=cookie)
    assert_problem(reply, 403, "refresh_token_revoked", "Refresh token invalid or revoked.")


def test_signing_out_without_a_cookie_ends_the_session_of_the_access_token(wire: Wire) -> None:
    access, cookie = wire.sign_in()
    assert_signed_out(wire, wire.send("POST", "/api/logout", bearer=access))
    assert wire.send("POST", "/api/token", cookie=cookie).status_code == 403


def test_signing_out_has_one_answer_whether_or_not_there_was_a_session(wire: Wire) -> None:
    _, cookie = wire.sign_in()
    for given in (cookie, cookie, None, "", "bad"):
        assert_signed_out(wire, wire.send("POST", "/api/logout", cookie=given))


def test_signing_out_leaves_other_sessions_alone(wire: Wire) -> None:
    (_, first), (_, second) = wire.sign_in(), wire.sign_in()
    assert_signed_out(wire, wire.send("POST", "/api/logout", cookie=first))
    assert wire.send("POST", "/api/token", cookie=second).status_code == 200


# GET /api/protected


def test_an_access_token_opens_the_protected_route(wire: Wire) -> None:
    access, _ = wire.sign_in()
    reply = wire.send("GET", "/api/protected", bearer=access)
    assert reply.status_code == 200
    assert reply.content_type == "application/json"
    assert reply.get_json() == {"message": "Welcome, alice! This is protected data."}
    assert "Set-Cookie" not in reply.headers


def test_no_access_token_is_answered_401(wire: Wire) -> None:
    reply = wire.send("GET", "/api/protected")
    assert_problem(reply, 401, "access_token_missing", "Access token required.")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api"'


def test_a_bad_access_token_is_answered_403(wire: Wire) -> None:
    access, cookie = wire.sign_in()
    for bad in ("bad", cookie, access[:-2], access + "A", "null", "undefined"):
        reply = wire.send("GET", "/api/protected", bearer=bad)
        assert_problem(reply, 403, "access_token_invalid", "Access token invalid or expired.")
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="tokenapp-api", error="invalid_token"'


# The whole way.


def test_a_client_of_the_old_program_gets_along(wire: Wire) -> None:
    browser = wire.app.test_client()
    base = "https://auth.example.com" if wire.name.startswith("__Host-") else "http://localhost:3005"
    for _ in range(2):
        reply = browser.post("/api/login", json=SIGN_IN, base_url=base)
        assert reply.get_json()["message"] == "Logged in successfully."
        for _ in range(3):
            bearer = {"Authorization": f"Bearer {reply.get_json()['accessToken']}"}
            assert browser.get("/api/protected", headers=bearer, base_url=base).status_code == 200
            reply = browser.post("/api/token", base_url=base)
            assert reply.status_code == 200
        assert browser.post("/api/logout", base_url=base).status_code == 204
        assert browser.get_cookie(wire.name) is None
        reply = browser.post("/api/token", base_url=base)
        assert reply.get_json()["message"] == "Refresh token not found."
