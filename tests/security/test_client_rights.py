"""Clients of the OAuth routes have the rights that they were given."""

import base64
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import create_user
from tests.support.client import Client, Response, sign_in
from tests.support.commandline import run, run_json
from tokenapp import clients, db
from tokenapp.models import AuditEvent, Right

ROUTES: dict[Right, tuple[str, str]] = {
    "introspect": ("POST", "/api/introspect"),
    "revoke": ("POST", "/api/revoke"),
    "feed": ("GET", "/api/revocations"),
}


def ask(app: Flask, right: Right, credentials: tuple[str, str], token: str = "any") -> Response:  # noqa: S107 -- no password
    method, path = ROUTES[right]
    headers = {"Authorization": "Basic " + base64.b64encode(":".join(credentials).encode()).decode()}
    if method == "POST":
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    body = urlencode({"token": token}).encode() if method == "POST" else None
    return Client(app).send(method, path, body=body, headers=headers)


def make_client(app: Flask, *rights: Right) -> tuple[str, str]:
    with app.app_context():
        client, secret = clients.create("service", rights, datetime.now(UTC))
        return client.id, secret


@pytest.mark.parametrize("right", ROUTES)
def test_client_may_do_what_it_was_given_the_right_for(app: Flask, right: Right) -> None:
    credentials = make_client(app, right)
    statuses = {each: ask(app, each, credentials).status for each in ROUTES}
    assert statuses == {each: 200 if each == right else 403 for each in ROUTES}


def test_missing_right_is_an_oauth_error(app: Flask) -> None:
    response = ask(app, "revoke", make_client(app))
    assert (response.status, response.json["error"]) == (403, "unauthorized_client")


def test_client_without_the_right_revokes_nothing(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    ask(app, "revoke", make_client(app, "introspect", "feed"), str(client.cookie))
    assert client.refresh().status == 200


def test_refresh_token_is_inactive_to_introspection(app: Flask) -> None:
    create_user(app)
    client = sign_in(app)
    credentials = make_client(app, "introspect")
    assert ask(app, "introspect", credentials, str(client.cookie)).json == {"active": False}
    assert ask(app, "introspect", credentials, str(client.token)).json["active"] is True


def test_command_gives_rights_and_none_by_default(app: Flask) -> None:
    assert run_json(app, "clients", "create", "plain")["rights"] == []
    created = run_json(app, "clients", "create", "guard", "--right", "feed", "--right", "introspect")
    assert created["rights"] == ["introspect", "feed"]
    assert [each["rights"] for each in run_json(app, "clients", "list")] == [[], ["introspect", "feed"]]


def test_doctor_names_clients_with_all_rights(app: Flask) -> None:
    client_id, _ = make_client(app, "introspect", "revoke", "feed")
    assert client_id in run(app, "doctor", code=1).output


def test_wrong_secret_is_an_audit_event_with_a_count(app: Flask) -> None:
    client_id, _ = make_client(app, "feed")
    for _ in range(3):
        assert ask(app, "feed", (client_id, "wrong")).status == 401
    assert ask(app, "feed", ("client-unknown", "wrong")).status == 401
    with app.app_context():
        failed = sa.select(AuditEvent.reason, AuditEvent.count).where(AuditEvent.kind == "client_failed")
        assert [tuple(row) for row in db.execute_now(failed)] in ([(client_id, 3)], [(client_id, 1), (client_id, 2)])
