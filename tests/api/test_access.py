"""The access token that each route of the account requires."""

from datetime import UTC, datetime
from typing import Any, Final

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.support import stored
from tests.support.app import PASSWORD, application, create_user
from tests.support.client import Client, Response, sign_in
from tokenapp import accounts, db
from tokenapp.models import Session, User

NEW: Final = "an entirely new one 42"
Route = tuple[str, str, Any]
ROUTES: Final[dict[str, Route]] = {
    "me": ("GET", "/api/me", None),
    "password": ("PUT", "/api/me/password", {"currentPassword": PASSWORD, "newPassword": NEW}),
    "list": ("GET", "/api/sessions", None),
    "revoke one": ("DELETE", "/api/sessions/{sid}", None),
    "revoke all": ("DELETE", "/api/sessions", None),
    "revoke others": ("DELETE", "/api/sessions?keep=current", None),
    "reauthenticate": ("POST", "/api/reauthenticate", {"password": PASSWORD}),
}
FRESH: Final = ("revoke one", "revoke all", "revoke others")
INVALID: Final = (403, "access_token_invalid", "Access token invalid or expired.")
CHALLENGE: Final = 'Bearer realm="tokenapp-api", error="invalid_token"'
every_route = pytest.mark.parametrize("name", ROUTES)
routes_of_the_user = pytest.mark.parametrize("name", ["me", "password", "reauthenticate"])


def call(client: Client, name: str, sid: str = "", **more: Any) -> Response:
    """Call a route by its name; `sid` is the session to revoke."""
    method, path, payload = ROUTES[name]
    return client.call(method, path.format(sid=sid), payload=payload, **more)


def delete_user(app: Flask) -> None:
    with app.app_context(), db.writing() as writer:
        writer.execute(sa.delete(Session))
        writer.execute(sa.delete(User).where(User.username == "alice"))


def assert_unchanged(client: Client) -> None:
    """Check that the session is live and the password still the old one."""
    assert client.refresh().status == 200
    assert Client(client.target).login().status == 200


@every_route
def test_missing_token_is_401(service: Flask, name: str) -> None:
    client = sign_in(service)
    response = call(client, name, client.sid, bearer=None)
    assert (response.status, response.code) == (401, "access_token_missing")
    assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api"'
    assert_unchanged(client)


@every_route
def test_token_with_a_wrong_signature_is_invalid(service: Flask, name: str) -> None:
    client = sign_in(service)
    response = call(client, name, client.sid, bearer=f"{(client.token or '')[:-4]}AAAA")
    assert response.problem == INVALID
    assert response.header("WWW-Authenticate") == CHALLENGE
    assert_unchanged(client)


@every_route
def test_refresh_token_is_not_an_access_token(service: Flask, name: str) -> None:
    client = sign_in(service)
    assert call(client, name, client.sid, bearer=client.cookie).problem == INVALID
    response = call(client, name, client.sid, bearer=None, cookie=client.cookie)
    assert (response.status, response.code) == (401, "access_token_missing")


@every_route
def test_token_of_a_revoked_session_is_invalid(service: Flask, name: str, clock: time_machine.Traveller) -> None:
    client, other = sign_in(service), sign_in(service)
    assert client.logout().status == 204
    clock.shift(2)
    assert call(client, name, other.sid).problem == INVALID
    assert other.refresh().status == 200


@routes_of_the_user
@pytest.mark.parametrize("status", [401, 403])
def test_token_of_a_disabled_user_is_invalid_at_once(database_url: str, service: Flask, name: str, status: int) -> None:
    settings = {"TOKENAPP_REVOCATION_DELAY": "60", "TOKENAPP_INVALID_TOKEN_STATUS": str(status)}
    with application(database_url, **settings) as patient:
        client = sign_in(patient)
        assert call(client, "me").status == 200
        with service.app_context():
            accounts.disable(accounts.find("alice"), datetime.now(UTC))
        response = call(client, name)
    assert (response.status, response.code) == (status, "access_token_invalid")
    assert response.header("WWW-Authenticate") == CHALLENGE


@routes_of_the_user
def test_token_of_a_deleted_user_is_invalid(service: Flask, name: str) -> None:
    client = sign_in(service)
    delete_user(service)
    assert call(client, name).problem == INVALID
    assert stored.failed_attempts(service) == 0


@pytest.mark.parametrize("name", ["password", "reauthenticate"])
def test_token_is_invalid_for_another_user_of_the_same_name(service: Flask, name: str) -> None:
    client = sign_in(service)
    delete_user(service)
    create_user(service, "alice")
    assert call(client, name).problem == INVALID
    assert Client(service).login().status == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@every_route
def test_response_may_not_be_stored_by_caches(service: Flask, name: str) -> None:
    client = sign_in(service)
    assert call(client, name, client.sid).all("Cache-Control") == ["no-store"]


# Routes that require a recent sign-in


@pytest.mark.parametrize("name", FRESH)
def test_sign_in_more_than_15_minutes_ago_must_be_confirmed(
    service: Flask, name: str, clock: time_machine.Traveller
) -> None:
    client, other = sign_in(service), sign_in(service)
    clock.shift(901)
    assert client.refresh().status == 200
    response = call(client, name, other.sid)
    assert (response.status, response.code) == (401, "reauthentication_required")
    challenge = 'Bearer realm="tokenapp-api", error="insufficient_user_authentication", max_age="900"'
    assert response.header("WWW-Authenticate") == challenge
    assert response.all("Set-Cookie") == []
    assert (client.refresh().status, other.refresh().status) == (200, 200)


def test_refreshed_token_is_fresh_until_then(service: Flask, clock: time_machine.Traveller) -> None:
    client, other = sign_in(service), sign_in(service)
    clock.shift(899)
    assert client.refresh().status == 200
    assert call(client, "revoke one", other.sid).status == 204


@pytest.mark.parametrize("name", [name for name in ROUTES if name not in FRESH])
def test_other_routes_accept_an_older_sign_in(service: Flask, name: str, clock: time_machine.Traveller) -> None:
    client = sign_in(service)
    clock.shift(901)
    assert client.refresh().status == 200
    assert call(client, name).status in {200, 204}
