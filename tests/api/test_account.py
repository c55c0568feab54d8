"""The account of the caller: its data, its password, and re-authentication."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.conftest import Databases, Servers
from tests.support import stored
from tests.support.app import PASSWORD, application, create_user
from tests.support.client import Client, Response, sign_in
from tests.support.concurrency import at_once, repeating, wait_until
from tokenapp import accounts, db
from tokenapp.models import AuditEvent, User

NEW: Final = "an entirely new one 42"
WRONG: Final = "not the password at all"
INVALID_CREDENTIALS: Final = (401, "invalid_credentials", "Invalid credentials.")
JSON: Final = {"Content-Type": "application/json"}
CHANGE: Final = ("PUT", "/api/me/password", {"currentPassword": PASSWORD, "newPassword": NEW})
REAUTHENTICATE: Final = ("POST", "/api/reauthenticate", {"password": PASSWORD})
# Each field that is a password, with its route.
FIELDS: Final = {"currentPassword": CHANGE, "newPassword": CHANGE, "password": REAUTHENTICATE}
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def change(client: Client, current: str = PASSWORD, new: str = NEW) -> Response:
    """Change the password."""
    return client.call("PUT", "/api/me/password", payload={"currentPassword": current, "newPassword": new})


def reauthenticate(client: Client, password: str = PASSWORD) -> Response:
    """Send the password again; the client keeps the new access token."""
    return client.call("POST", "/api/reauthenticate", payload={"password": password})


def revoke_others(client: Client) -> Response:
    """Call a route that requires a recent sign-in."""
    return client.call("DELETE", "/api/sessions?keep=current")


def assert_unchanged(app: Flask) -> None:
    """Check that the password is still the old one and no failed attempt was counted."""
    assert stored.failed_attempts(app) == 0
    assert Client(app).login().status == 200


def test_me_is_the_owner_of_the_token(service: Flask) -> None:
    me = sign_in(service, "bob").call("GET", "/api/me").json
    with service.app_context():
        user = accounts.find("bob")
    assert me.keys() == {"id", "username", "createdAt"}
    assert (me["id"], me["username"]) == (user.id, "bob")
    assert datetime.fromisoformat(me["createdAt"]) == user.created_at


def test_me_says_that_there_is_no_password(service: Flask) -> None:
    client = sign_in(service, "bob")
    assert "hasPassword" not in client.call("GET", "/api/me").json
    with service.app_context():
        db.execute_now(sa.update(User).where(User.username == "bob").values(password_hash="", hash_kind=""))
    assert client.call("GET", "/api/me").json["hasPassword"] is False


# Malformed requests

BODIES: Final[dict[str, tuple[int, Mapping[str, Any]]]] = {
    "missing": (415, {}),
    "empty": (400, {"body": b"", "headers": JSON}),
    "null": (400, {"body": b"null", "headers": JSON}),
    "array": (400, {"body": b"[]", "headers": JSON}),
    "string": (400, {"body": b'"x"', "headers": JSON}),
    "NaN": (400, {"body": b"NaN", "headers": JSON}),
    "deeply nested": (400, {"body": b'{"password":' + b"[" * 5000, "headers": JSON}),
    "invalid UTF-8": (400, {"body": b'{"password":"\xff"}', "headers": JSON}),
    "lone surrogate": (400, {"body": b'{"password":"\\ud800"}', "headers": JSON}),
    "too large": (413, {"body": b"x" * 16385, "headers": JSON}),
    "form": (415, {"form": {"password": PASSWORD}}),
    "text": (415, {"body": b"{}", "headers": {"Content-Type": "text/plain"}}),
}
VALUES: Final[dict[str, Any]] = {
    "missing": ...,
    "null": None,
    "number": 1,
    "array": [PASSWORD],
    "object": {"a": PASSWORD},
    "NUL": PASSWORD + "\x00",
    "too long": "x" * 1025,
    "too long in two-byte characters": "\u00e9" * 1025,
}


@one_database
@pytest.mark.parametrize(("status", "sent"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("route", [CHANGE, REAUTHENTICATE], ids=["change", "reauthenticate"])
def test_malformed_body_is_rejected(service: Flask, route: Any, status: int, sent: Mapping[str, Any]) -> None:
    method, path, _ = route
    assert sign_in(service).call(method, path, **sent).status == status
    assert_unchanged(service)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("field", FIELDS)
def test_malformed_value_is_rejected_and_not_counted(service: Flask, field: str, value: Any) -> None:
    method, path, good = FIELDS[field]
    payload = {name: text for name, text in {**good, field: value}.items() if text is not ...}
    response = sign_in(service).call(method, path, payload=payload)
    # The length of a new password is a matter of the password policy.
    is_new_and_long = field == "newPassword" and isinstance(value, str) and len(value) > 1024
    code = "password_rejected" if is_new_and_long else "invalid_request"
    assert (response.status, response.code) == (400, code)
    assert_unchanged(service)


# The change of the password


def test_new_password_replaces_all_sessions_by_a_new_one(service: Flask, clock: time_machine.Traveller) -> None:
    current, others, bob = sign_in(service), [sign_in(service), sign_in(service)], sign_in(service, "bob")
    old_sid, old_cookie = current.sid, current.cookie
    response = change(current)
    assert (response.status, response.body, len(response.all("Set-Cookie"))) == (204, b"", 1)
    clock.shift(2)
    assert [client.call("GET", "/api/me").code for client in (current, *others)] == ["access_token_invalid"] * 3
    assert [other.refresh().status for other in others] == [403, 403]
    assert Client(service).refresh(old_cookie).status == 403
    assert (current.refresh().status, bob.refresh().status) == (200, 200)
    items = current.call("GET", "/api/sessions").json["items"]
    assert [item["id"] for item in items] == [current.sid] != [old_sid]


def test_only_the_new_password_is_accepted_afterwards(service: Flask) -> None:
    assert change(sign_in(service)).status == 204
    client = Client(service)
    assert (client.login().status, client.login(password=NEW).status) == (401, 200)
    assert client.login("bob").status == 200


def test_change_is_in_the_audit_log_with_each_revoked_session(service: Flask) -> None:
    current = sign_in(service)
    sign_in(service)
    change(current)
    with service.app_context():
        rows = db.execute_now(
            sa.select(AuditEvent.kind, AuditEvent.reason).where(
                AuditEvent.kind.not_in(("user_created", "sign_in", "key_created"))
            )
        )
    ended = ("session_ended", "password_changed")
    assert sorted(tuple(row) for row in rows) == [("password_changed", None), ended, ended]


def test_wrong_current_password_changes_nothing_and_is_counted(service: Flask) -> None:
    client, other = sign_in(service), sign_in(service)
    assert [change(client, WRONG).problem for _ in range(5)] == [INVALID_CREDENTIALS] * 5
    locked = change(client)
    assert (locked.status, locked.code) == (429, "too_many_attempts")
    assert int(locked.header("Retry-After") or 0) > 0
    assert Client(service).login().status == 200, "the failures count against the session, not the account"
    assert (client.refresh().status, other.refresh().status) == (200, 200)


REJECTED: Final = {
    "too short": ("fourteen chars", "at least 15"),
    "too long": ("x1" * 513, "at most 1024"),
    "too long in two-byte characters": ("\u00e9" * 513, "at most 1024"),
    "the user name": ("alice alice alice", "too easy to guess"),
    "the name of the service": ("tokenapp tokenapp", "too easy to guess"),
    "a common password": ("passwordpassword", "too easy to guess"),
}


@one_database
@pytest.mark.parametrize(("new", "reason"), REJECTED.values(), ids=REJECTED)
def test_new_password_against_the_policy_is_rejected_and_not_counted(service: Flask, new: str, reason: str) -> None:
    client, other = sign_in(service), sign_in(service)
    for _ in range(6):
        response = change(client, new=new)
        assert (response.status, response.code) == (400, "password_rejected")
        assert reason in response.json["detail"]
    assert_unchanged(service)
    assert (client.refresh().status, other.refresh().status) == (200, 200)


def test_change_that_cannot_be_stored_completely_is_not_stored(databases: Databases) -> None:
    with application(databases("sqlite")) as app:
        create_user(app)
        client, other = sign_in(app), sign_in(app)
        with app.app_context():
            broken = "CREATE TRIGGER broken BEFORE UPDATE OF revoked_at ON sessions "
            db.execute_now(sa.text(f"{broken} BEGIN SELECT RAISE(FAIL, 'full'); END"))
        assert change(client).status >= 500
        assert other.refresh().status == 200
        assert Client(app).login(password=NEW).status == 401
        assert Client(app).login().status == 200


def test_only_one_of_several_simultaneous_changes_succeeds(app: Flask, database_url: str, serve: Servers) -> None:
    port = serve(database_url, TOKENAPP_THREADS="16").port
    for number in range(5):
        username = f"user{number}"
        create_user(app, username)
        clients = [sign_in(port, username) for _ in range(4)]
        changes = (partial(change, each, PASSWORD, f"{NEW} {index}") for index, each in enumerate(clients))
        statuses = [response.status for response in at_once(*changes)]
        assert statuses.count(204) == 1
        assert set(statuses) <= {204, 401, 403}
        assert Client(port).login(username, f"{NEW} {statuses.index(204)}").status == 200


def test_no_sign_in_with_the_old_password_survives_its_change(app: Flask, database_url: str, serve: Servers) -> None:
    port = serve(database_url, TOKENAPP_THREADS="16").port
    for number in range(4):
        username = f"user{number}"
        create_user(app, username)
        owner = sign_in(port, username)
        others: list[Client] = []

        def keep_signing_in(username: str = username, others: list[Client] = others) -> None:
            client = Client(port)
            if client.login(username).status == 200:
                others.append(client)

        with repeating(*[keep_signing_in] * 4):
            wait_until(partial(bool, others), what="a sign-in")
            response = change(owner)
        assert response.status == 204
        assert {other.refresh().status for other in others} == {403}
        assert owner.refresh().status == 200
        items = owner.call("GET", "/api/sessions").json["items"]
        assert [item["current"] for item in items] == [True]


# Re-authentication


def test_password_replaces_the_session_by_a_fresh_one(service: Flask, clock: time_machine.Traveller) -> None:
    client, other = sign_in(service), sign_in(service)
    clock.shift(901)
    assert client.refresh().status == 200
    old_sid, old_cookie = client.sid, client.cookie
    response = reauthenticate(client)
    assert (response.status, len(response.all("Set-Cookie"))) == (200, 1)
    assert response.json.keys() == {"accessToken", "tokenType", "expiresIn"}
    assert (response.json["tokenType"], response.json["expiresIn"]) == ("Bearer", 900)
    assert client.sid != old_sid
    assert Client(service).refresh(old_cookie).status == 403
    assert other.refresh().status == 200
    assert revoke_others(client).status == 204
    assert client.refresh().status == 200


def test_tokens_refreshed_after_that_are_fresh_for_15_minutes(service: Flask, clock: time_machine.Traveller) -> None:
    client = sign_in(service)
    clock.shift(901)
    client.refresh()
    assert reauthenticate(client).status == 200
    clock.shift(899)
    assert client.refresh().status == 200
    assert revoke_others(client).status == 204
    clock.shift(2)
    assert revoke_others(client).code == "reauthentication_required"


def test_wrong_password_makes_nothing_fresh_and_is_counted(service: Flask, clock: time_machine.Traveller) -> None:
    client = sign_in(service)
    clock.shift(901)
    client.refresh()
    codes = [reauthenticate(client, WRONG).code for _ in range(6)]
    assert codes == ["invalid_credentials"] * 5 + ["too_many_attempts"]
    assert revoke_others(client).code == "reauthentication_required"
    assert Client(service).login().status == 200, "the failures count against the session, not the account"
    assert client.refresh().status == 200


def test_password_of_another_user_makes_nothing_fresh(service: Flask) -> None:
    with service.app_context():
        accounts.set_password(accounts.find("bob"), NEW, datetime.now(UTC))
    assert reauthenticate(sign_in(service), NEW).problem == INVALID_CREDENTIALS


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("status", [401, 403])
def test_session_that_was_just_revoked_cannot_be_made_fresh(database_url: str, status: int) -> None:
    settings = {"TOKENAPP_REVOCATION_DELAY": "60", "TOKENAPP_INVALID_TOKEN_STATUS": str(status)}
    with application(database_url, **settings) as patient:
        client = sign_in(patient)
        assert client.call("GET", "/api/me").status == 200
        assert client.logout().status == 204
        response = reauthenticate(client)
    assert (response.status, response.code) == (status, "access_token_invalid")
    assert response.header("WWW-Authenticate") == 'Bearer realm="tokenapp-api", error="invalid_token"'
