"""Refresh cookies: several at once, other names, and tokens in other places."""

from typing import Final

import pytest
from flask import Flask

from tests.support import stored
from tests.support.app import create_user
from tests.support.client import Client, sign_in

MISSING: Final = (401, "refresh_token_missing", "Refresh token not found.")
REVOKED: Final = (403, "refresh_token_revoked", "Refresh token invalid or revoked.")


@pytest.fixture
def two(app: Flask) -> tuple[Client, Client]:
    """Return the signed-in clients of two users."""
    create_user(app, "alice")
    create_user(app, "robert")
    return sign_in(app, "alice"), sign_in(app, "robert")


def test_two_refresh_cookies_are_rejected_and_change_nothing(app: Flask, two: tuple[Client, Client]) -> None:
    one, other = (client.cookie for client in two)
    before = stored.sessions(app)
    for first, second in ((one, other), (other, one), (one, one), (one, ""), ("", one), (one, "x"), ("x", one)):
        headers = {"Cookie": f"refreshToken={first}; refreshToken={second}"}
        response = Client(app).refresh(headers=headers)
        assert response.problem == REVOKED
        assert response.cookie is None
        response = Client(app).login(headers=headers)
        assert (response.status, response.code) == (400, "invalid_request")
        assert response.cookie is None
    assert stored.sessions(app) == before


def test_logout_with_two_refresh_cookies_revokes_both_sessions(app: Flask, two: tuple[Client, Client]) -> None:
    one, other = two
    headers = {"Cookie": f"refreshToken={one.cookie}; a=b; refreshToken={other.cookie}"}
    assert Client(app).logout(headers=headers).status == 204
    assert one.refresh().problem == REVOKED
    assert other.refresh().problem == REVOKED


@pytest.mark.parametrize("name", ["RefreshToken", "refreshtoken", "__Host-refreshToken", "__Secure-refreshToken", "x"])
def test_cookie_of_another_name_is_ignored(shared: Client, name: str) -> None:
    assert shared.send("POST", "/api/token", headers={"Cookie": f"{name}={shared.cookie}"}).problem == MISSING


EMPTY_COOKIES: Final = [
    "",
    ";",
    "refreshToken",
    "refreshToken=",
    "refreshToken=;",
    '="x"',
    "=",
    "a=b; refreshToken= ;",
    "\xff",
]


@pytest.mark.parametrize("header", EMPTY_COOKIES, ids=repr)
def test_empty_cookie_counts_as_missing(shared: Client, header: str) -> None:
    assert shared.send("POST", "/api/token", headers={"Cookie": header}).problem == MISSING


def test_other_cookies_are_ignored(shared: Client) -> None:
    header = f"a=1; a=2; theme=dark; refreshToken={shared.cookie}; session=x; b"
    assert shared.refresh(cookie=None, headers={"Cookie": header}).status == 200


def test_refresh_token_is_read_from_the_cookie_alone(shared: Client) -> None:
    token = shared.cookie or ""
    fields = {"refreshToken": token, "refresh_token": token, "jwt": token}
    assert shared.send("POST", "/api/token", bearer=token).problem == MISSING
    assert shared.send("POST", "/api/token", payload=fields).problem == MISSING
    assert shared.send("POST", "/api/token", form=fields).problem == MISSING
    assert shared.send("POST", f"/api/token?refreshToken={token}&jwt={token}").problem == MISSING
    assert shared.send("POST", "/api/token", headers={"X-Refresh-Token": token}).problem == MISSING
