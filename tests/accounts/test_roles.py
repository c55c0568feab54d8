"""The roles of users: in tokens, for proxies and for other services."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from time import sleep

import pytest
from flask import Flask

from tests.support.access_keys import create_key, exchange
from tests.support.app import application, create_user
from tests.support.client import Client, claims_of, sign_in
from tests.support.commandline import error_of, run, run_json
from tests.support.concurrency import at_once
from tests.support.service_clients import register
from tokenapp import accounts, errors


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    """Return an application with alice, whose revocation list is hardly cached."""
    with application(database_url, TOKENAPP_REVOCATION_DELAY="0.05", TOKENAPP_REFRESH_GRACE="30s") as app:
        create_user(app)
        yield app


def change(app: Flask, action: str, *roles: str) -> None:
    for role in roles:
        run(app, "users", "roles", "alice", action, role)
    sleep(0.06)


def roles_of(client: Client) -> list[str]:
    """Return the roles in the access token of a client."""
    claims = claims_of(client.token or "")
    assert ("roles" in claims) == ("roles_id" in claims)
    return list(claims.get("roles", []))


def test_added_role_arrives_with_the_next_refresh(app: Flask) -> None:
    client = sign_in(app)
    change(app, "add", "editor", "admin")
    assert (client.protected().status, roles_of(client)) == (200, [])
    assert client.refresh().status == 200
    assert roles_of(client) == ["admin", "editor"]
    assert roles_of(sign_in(app)) == ["admin", "editor"]


def test_removed_role_ends_the_access_token_and_not_the_session(app: Flask) -> None:
    change(app, "add", "admin", "editor")
    client = sign_in(app)
    change(app, "remove", "admin")
    assert client.protected().code == "access_token_invalid"
    assert client.send("GET", "/api/verify", bearer=client.token).status == 403
    sid = client.sid
    assert client.refresh().status == 200
    assert (client.protected().status, client.sid, roles_of(client)) == (200, sid, ["editor"])
    change(app, "remove", "editor")
    assert client.protected().status == 403
    assert client.refresh().status == 200, "within the grace period, too"
    assert (client.protected().status, roles_of(client)) == (200, [])


def test_removal_during_refreshes_and_exchanges_leaves_no_token_with_the_role(app: Flask) -> None:
    key = create_key(sign_in(app))["key"]
    for _ in range(3):
        change(app, "add", "admin")
        client = sign_in(app)
        refresh = partial(client.send, "POST", "/api/token", cookie=client.cookie)
        send_key = partial(Client(app).send, "POST", "/api/token", bearer=key)

        def remove() -> None:
            with app.app_context():
                accounts.remove_role(accounts.find("alice"), "admin", datetime.now(UTC))

        responses = [each for each in at_once(refresh, send_key, remove, refresh, send_key) if each is not None]
        assert {response.status for response in responses} == {200}
        sleep(0.06)
        for token in (response.json["accessToken"] for response in responses):
            expected = 403 if "roles" in claims_of(token) else 200
            assert Client(app).protected(token).status == expected


def test_role_that_is_added_again_does_not_revive_old_tokens(app: Flask) -> None:
    change(app, "add", "admin")
    client = sign_in(app)
    change(app, "remove", "admin")
    change(app, "add", "admin")
    assert client.protected().status == 403
    client.refresh()
    assert (client.protected().status, roles_of(client)) == (200, ["admin"])


def test_removing_a_role_affects_no_other_user(app: Flask) -> None:
    create_user(app, "bob")
    run(app, "users", "roles", "bob", "add", "admin")
    change(app, "add", "admin")
    bob = sign_in(app, "bob")
    change(app, "remove", "admin")
    assert bob.protected().status == 200


def test_removing_what_a_user_does_not_have_changes_nothing(app: Flask) -> None:
    change(app, "add", "admin")
    client = sign_in(app)
    change(app, "remove", "editor", "Admin")
    change(app, "add", "admin")
    assert client.protected().status == 200
    assert len(run_json(app, "events", "list", "--user", "alice", "--kind", "role_added")) == 1


def test_proxies_get_the_roles(app: Flask) -> None:
    client = sign_in(app)
    assert client.call("GET", "/api/verify").header("X-Auth-Roles") == ""
    change(app, "add", "b:write", "a.read")
    client.refresh()
    assert client.call("GET", "/api/verify").header("X-Auth-Roles") == "a.read,b:write"


def test_introspection_returns_the_roles_and_rejects_removed_ones_at_once(app: Flask) -> None:
    service = register(app)
    change(app, "add", "admin", "editor")
    client = sign_in(app)
    key = create_key(client)["key"]
    of_key = exchange(app, key)
    for given in (client.token or "", key, of_key):
        assert service.post("/api/introspect", token=given).json["roles"] == ["admin", "editor"]
    change(app, "remove", "editor")
    assert not service.is_active(client.token)
    assert not service.is_active(of_key)
    assert service.post("/api/introspect", token=key).json["roles"] == ["admin"]
    client.refresh()
    assert service.post("/api/introspect", token=client.token or "").json["roles"] == ["admin"]


def test_feed_lists_the_replaced_set_of_roles(app: Flask) -> None:
    service = register(app)
    change(app, "add", "admin")
    client = sign_in(app)
    change(app, "remove", "admin")
    listed = [item["sid"] for item in service.feed().json["items"]]
    assert listed == [claims_of(client.token or "")["roles_id"]]


def test_commands_show_the_roles(app: Flask) -> None:
    assert run(app, "users", "roles", "alice").output == "Roles of alice: none.\n"
    change(app, "add", "b", "a")
    assert run(app, "users", "roles", "alice").output == "Roles of alice: a, b.\n"
    assert run_json(app, "users", "show", "alice")["roles"] == ["a", "b"]
    events = run_json(app, "events", "list", "--user", "alice", "--kind", "role_added")
    assert [(event["reason"], event["actor"]) for event in events] == [("b", "operator"), ("a", "operator")]


@pytest.mark.parametrize("role", ["", "a b", "a,b", "é", "x" * 33, "-x", "a\n", 'a"', "a\x01"])
def test_malformed_role_is_rejected(app: Flask, role: str) -> None:
    assert error_of(run(app, "users", "roles", "alice", "add", "--", role, code=1)).startswith("A role has")
    assert sign_in(app).protected().status == 200


def test_user_has_at_most_twenty_roles_of_thirty_two_characters(app: Flask) -> None:
    names = [f"{number:02}" + "x" * 30 for number in range(21)]
    with app.app_context():
        for name in names[:20]:
            accounts.add_role(accounts.find("alice"), name, datetime.now(UTC))
        with pytest.raises(errors.RoleRejected, match="role_rejected"):
            accounts.add_role(accounts.find("alice"), names[20], datetime.now(UTC))
    client = sign_in(app)
    assert roles_of(client) == names[:20]
    assert client.protected().status == 200


def test_action_without_a_role_is_a_usage_error(app: Flask) -> None:
    run(app, "users", "roles", "alice", "add", code=2)


def test_deleted_user_keeps_no_roles(app: Flask) -> None:
    change(app, "add", "admin")
    user_id = str(run_json(app, "users", "show", "alice")["id"])
    run(app, "users", "delete", "alice", "--yes")
    assert "roles" not in run_json(app, "users", "show", user_id)
    run(app, "users", "roles", user_id, "add", "admin", code=1)


def test_claims_are_well_formed(app: Flask) -> None:
    change(app, "add", "admin")
    claims = claims_of(sign_in(app).token or "")
    assert json.dumps(claims["roles"]) == '["admin"]'
    assert isinstance(claims["roles_id"], str)
