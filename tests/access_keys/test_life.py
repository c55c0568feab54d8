"""Access keys from creation to their end."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from time import sleep
from typing import Any

import pytest
import sqlalchemy as sa
import time_machine
from flask import Flask

from tests.support.access_keys import create_key, exchange
from tests.support.app import PASSWORD, create_user
from tests.support.client import Client, claims_of, sign_in
from tests.support.commandline import error_of, run, run_json
from tests.support.concurrency import at_once
from tests.support.service_clients import ServiceClient, register
from tokenapp import access_keys, accounts, db
from tokenapp.models import AccessKey, NewHash, Session

KEYS = "/api/me/access-keys"


def stored(app: Flask) -> AccessKey:
    """Return the one key that is stored."""
    with app.app_context(), db.reading() as session:
        return session.scalars(sa.select(AccessKey)).one()


# Creation


def test_created_key_is_shown_once_and_stored_as_a_digest(app: Flask, alice: Client) -> None:
    created = create_key(alice, name="deploy", scopes=["orders:read", "a"], expiresIn=3600)
    assert access_keys.is_well_formed(created["key"])
    assert (created["name"], created["scopes"]) == ("deploy", ["a", "orders:read"])
    listed = alice.call("GET", KEYS).json["items"]
    assert listed == [{name: value for name, value in created.items() if name != "key"}]
    row = stored(app)
    assert created["key"] not in {str(value) for value in vars(row).values()}
    assert row.expires_at - row.created_at == timedelta(hours=1)


def test_key_lives_ninety_days_by_default(app: Flask, alice: Client) -> None:
    create_key(alice)
    assert stored(app).expires_at - stored(app).created_at == timedelta(days=90)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\x00b"},
        {"name": "a\x1b[2J"},
        {"name": "a\nb"},
        {"name": "a\x9bb"},
        {"name": None},
        {"scopes": ["a b"]},
        {"scopes": [""]},
        {"scopes": ["a"] * 21},
        {"expiresIn": 0},
        {"expiresIn": 366 * 86400},
        {"expiresIn": "1"},
    ],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_malformed_key_is_not_created(alice: Client, fields: dict[str, Any]) -> None:
    response = alice.call("POST", KEYS, payload={"name": "CI", **fields})
    assert response.code == "invalid_request"
    assert alice.call("GET", KEYS).json == {"items": []}


def test_old_sign_in_cannot_create_a_key(app: Flask, alice: Client) -> None:
    with app.app_context():
        db.execute_now(sa.update(Session).values(authenticated_at=datetime.now(UTC) - timedelta(hours=1)))
    alice.refresh()
    assert alice.call("POST", KEYS, payload={"name": "CI"}).code == "reauthentication_required"


def test_user_has_a_limited_number_of_keys(app: Flask, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokenapp.access_keys.lifecycle.MAX_KEYS", 3)
    responses = at_once(*[lambda: alice.send("POST", KEYS, payload={"name": "CI"}, bearer=alice.token)] * 6)
    assert sorted(response.status for response in responses) == [200] * 3 + [409] * 3
    create_user(app, "bob")
    create_key(sign_in(app, "bob"))
    alice.call("DELETE", f"{KEYS}/{alice.call('GET', KEYS).json['items'][0]['id']}")
    create_key(alice)


def test_user_creates_a_limited_number_of_keys_within_an_hour(
    app: Flask, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenapp.access_keys.lifecycle.MAX_NEW", 3)
    for _ in range(3):
        alice.call("DELETE", f"{KEYS}/{create_key(alice)['id']}")
    response = alice.call("POST", KEYS, payload={"name": "CI"})
    assert (response.status, response.code) == (429, "too_many_attempts")
    assert 3000 < int(response.header("Retry-After") or 0) <= 3601
    create_user(app, "bob")
    create_key(sign_in(app, "bob"))
    with app.app_context():
        oldest = sa.select(sa.func.min(AccessKey.id)).where(AccessKey.revoked_at.is_not(None)).scalar_subquery()
        earlier = datetime.now(UTC) - timedelta(hours=1)
        db.execute_now(sa.update(AccessKey).where(AccessKey.id == oldest).values(created_at=earlier))
    create_key(alice)


def test_session_that_was_just_revoked_cannot_create_a_key(app: Flask, alice: Client) -> None:
    claims = claims_of(alice.token or "")
    alice.logout()
    new = access_keys.NewKey("CI", (), timedelta(days=1))
    with app.app_context(), pytest.raises(Exception, match="session ended"):
        access_keys.create(claims["sub"], claims["sid"], new, datetime.now(UTC))


# Use


def test_key_is_exchanged_for_an_access_token(app: Flask, alice: Client) -> None:
    run(app, "users", "roles", "alice", "add", "admin")
    created = create_key(alice, scopes=["b", "a"])
    response = Client(app).send("POST", "/api/token", bearer=created["key"])
    assert (response.status, response.cookie, response.json["tokenType"]) == (200, None, "Bearer")
    claims = claims_of(response.json["accessToken"])
    assert (claims["sid"], claims["amr"], claims["fresh"]) == (created["id"], ["key"], False)
    assert (claims["scope"], claims["roles"], claims["username"]) == ("a b", ["admin"], "alice")
    assert claims["exp"] - claims["iat"] == response.json["expiresIn"] == 900
    assert Client(app).protected(response.json["accessToken"]).status == 200


def test_token_does_not_outlive_the_key(app: Flask) -> None:
    start = datetime(2031, 5, 6, 7, 8, 20, 250_000, tzinfo=UTC)
    with time_machine.travel(start, tick=False) as clock:
        key = create_key(sign_in(app), expiresIn=60)["key"]
        clock.shift(59.6)
        ends = stored(app).expires_at
        assert claims_of(exchange(app, key))["exp"] <= ends.timestamp()
        clock.move_to(ends)
        assert Client(app).send("POST", "/api/token", bearer=key).code == "access_key_invalid"


def test_proxies_and_introspection_take_the_key_itself(app: Flask, alice: Client) -> None:
    service = register(app)
    created = create_key(alice, scopes=["orders:read"])
    for _ in range(2):
        response = Client(app).send("GET", "/api/verify", bearer=created["key"])
        shown = {name: response.header(f"X-Auth-{name}") for name in ("User", "Session", "Scope", "Roles")}
        assert shown == {"User": "alice", "Session": created["id"], "Scope": "orders:read", "Roles": ""}
    state = service.post("/api/introspect", token=created["key"]).json
    assert (state["active"], state["sid"], state["scope"], state["amr"]) == (
        True,
        created["id"],
        "orders:read",
        ["key"],
    )
    assert service.is_active(exchange(app, created["key"]))


def test_last_use_is_stored_to_the_minute(app: Flask, key: str) -> None:
    assert stored(app).last_used_at is None
    exchange(app, key)
    used = stored(app).last_used_at
    assert used is not None
    assert (used.second, used.microsecond) == (0, 0)
    assert datetime.now(UTC) - used < timedelta(minutes=2)


def test_expired_key_is_rejected(app: Flask, alice: Client) -> None:
    key = create_key(alice, expiresIn=60)["key"]
    assert Client(app).send("GET", "/api/verify", bearer=key).status == 204
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=61)):
        assert Client(app).send("POST", "/api/token", bearer=key).code == "access_key_invalid"
        assert Client(app).send("GET", "/api/verify", bearer=key).code == "access_token_invalid"
        assert not register(app).is_active(key)


def test_role_that_is_removed_is_gone_for_the_key_itself(app: Flask, key: str) -> None:
    run(app, "users", "roles", "alice", "add", "admin")
    assert Client(app).send("GET", "/api/verify", bearer=key).header("X-Auth-Roles") == "admin"
    run(app, "users", "roles", "alice", "remove", "admin")
    sleep(0.06)
    assert Client(app).send("GET", "/api/verify", bearer=key).header("X-Auth-Roles") == ""


# The end


def by_owner(app: Flask, alice: Client, key_id: str, key: str) -> None:
    del app, key
    assert alice.call("DELETE", f"{KEYS}/{key_id}").status == 204


def by_holder(app: Flask, alice: Client, key_id: str, key: str) -> None:
    del alice, key_id
    response = Client(app).send("POST", "/api/revoke", form={"token": key})
    assert (response.status, response.body) == (200, b"{}")


def by_client(app: Flask, alice: Client, key_id: str, key: str) -> None:
    del alice, key_id
    assert register(app).post("/api/revoke", token=exchange(app, key)).body == b"{}"


def by_operator(app: Flask, alice: Client, key_id: str, key: str) -> None:
    del alice, key
    assert run(app, "access-keys", "revoke", key_id).output == "Revoked 1 access key.\n"


def by_disabling(app: Flask, *_: object) -> None:
    run(app, "users", "disable", "alice")


def by_setting_a_password(app: Flask, *_: object) -> None:
    run(app, "users", "set-password", "alice", stdin="another pass phrase entirely\n")


def by_deletion(app: Flask, *_: object) -> None:
    run(app, "users", "delete", "alice", "--yes")


ENDS: dict[str, Callable[..., None]] = {
    "its owner revoked it": by_owner,
    "a program that had the key revoked it": by_holder,
    "another service revoked it": by_client,
    "an operator revoked it": by_operator,
    "its owner was disabled": by_disabling,
    "an operator set a new password for its owner": by_setting_a_password,
    "its owner was deleted": by_deletion,
}


@pytest.mark.parametrize("cause", ENDS)
def test_revoked_key_and_its_tokens_are_rejected_everywhere(app: Flask, alice: Client, cause: str) -> None:
    created, service = create_key(alice), register(app, "other")
    key, token, client = created["key"], exchange(app, created["key"]), Client(app)
    assert client.send("GET", "/api/verify", bearer=key).status == 204
    ENDS[cause](app, alice, created["id"], key)
    sleep(0.06)
    assert client.send("POST", "/api/token", bearer=key).code == "access_key_invalid"
    for given in (key, token):
        assert client.send("GET", "/api/verify", bearer=given).code == "access_token_invalid"
        assert not service.is_active(given)
    assert client.protected(token).code == "access_token_invalid"
    assert created["id"] in [item["sid"] for item in service.feed().json["items"]]
    assert f"because {cause}" in run(app, "sessions", "why", created["id"]).output


def test_changing_the_password_keeps_the_keys(app: Flask, alice: Client, key: str) -> None:
    payload = {"currentPassword": PASSWORD, "newPassword": "another pass phrase entirely"}
    assert alice.call("PUT", "/api/me/password", payload=payload).status == 204
    exchange(app, key)


def test_key_of_another_user_cannot_be_revoked(app: Flask, alice: Client) -> None:
    created = create_key(alice)
    create_user(app, "bob")
    response = sign_in(app, "bob").call("DELETE", f"{KEYS}/{created['id']}")
    assert response.code == "access_key_not_found"
    assert Client(app).send("POST", "/api/revoke", form={"token": alice.token or ""}).status == 401
    exchange(app, created["key"])


def test_response_to_a_revocation_does_not_reveal_whether_there_was_a_key(app: Flask, key: str) -> None:
    for given in (key, key, access_keys.generate()):
        response = Client(app).send("POST", "/api/revoke", form={"token": given})
        assert (response.status, response.body) == (200, b"{}")


def test_wrong_client_credentials_with_a_key_are_rejected(app: Flask, key: str) -> None:
    service = ServiceClient(Client(app), "client-x", "wrong")
    assert service.post("/api/revoke", token=key).status == 401
    exchange(app, key)


def test_revocation_during_exchanges_leaves_no_valid_token(app: Flask, alice: Client) -> None:
    for _ in range(5):
        created = create_key(alice)
        send = partial(Client(app).send, "POST", "/api/token", bearer=created["key"])

        def end(key_id: str = created["id"]) -> None:
            with app.app_context():
                access_keys.revoke(key_id, "operator", datetime.now(UTC))

        responses = [response for response in at_once(*[send] * 4, end) if response is not None]
        sleep(0.06)
        tokens = [response.json["accessToken"] for response in responses if response.status == 200]
        assert [token for token in tokens if Client(app).protected(token).status != 403] == []
        assert send().status == 403


def test_reset_during_a_creation_leaves_no_key(app: Flask, alice: Client) -> None:
    user_id = claims_of(alice.token or "")["sub"]
    for _ in range(3):
        client = sign_in(app)

        def reset() -> None:
            with app.app_context(), db.writing() as writer:
                user = accounts.get(user_id)
                hashed = NewHash(user.password_hash, short=False)
                accounts.reset_password(writer, user, hashed, datetime.now(UTC))

        create = partial(client.send, "POST", KEYS, payload={"name": "CI"}, bearer=client.token)
        at_once(create, create, reset)
        assert run_json(app, "access-keys", "list") == []


# Commands


def test_name_of_a_key_does_not_control_the_terminal(app: Flask, alice: Client) -> None:
    create_key(alice)
    with app.app_context():
        db.execute_now(sa.update(AccessKey).values(name="a\x1b[2J\nb\u202e"))
    output = run(app, "sessions", "why", "alice").output
    assert "(a\ufffd[2J\ufffdb\ufffd)" in output


def test_commands_list_and_revoke_keys(app: Flask, alice: Client) -> None:
    one, two = (create_key(alice, name=name) for name in ("one", "two"))
    listed = run_json(app, "access-keys", "list", "--user", "alice")
    assert [(each["id"], each["name"], each["username"]) for each in listed] == [
        (one["id"], "one", "alice"),
        (two["id"], "two", "alice"),
    ]
    run(app, "access-keys", "revoke", one["id"])
    assert [each["id"] for each in run_json(app, "access-keys", "list")] == [two["id"]]
    for search, found in (("TW", [two["id"]]), ("lic", [two["id"]]), ("%", [])):
        assert [each["id"] for each in run_json(app, "access-keys", "list", "--search", search)] == found
    assert run_json(app, "access-keys", "list", "--all")[0]["revokedReason"] == "operator"
    assert run(app, "access-keys", "revoke", "--user", "alice").output == "Revoked 1 access key.\n"
    assert error_of(run(app, "access-keys", "revoke", "x", code=1)) == "Access key not found: x."
    run(app, "access-keys", "revoke", code=2)
    for shown in (one, two):
        assert shown["key"] not in run(app, "access-keys", "list", "--all").output


def test_why_explains_live_and_pruned_keys(app: Flask, alice: Client) -> None:
    created = create_key(alice, name="deploy")
    assert "(deploy)" in run(app, "sessions", "why", "alice").output
    assert "is live; never used" in run(app, "sessions", "why", created["id"]).output
    run(app, "access-keys", "revoke", created["id"])
    with app.app_context():
        access_keys.prune(datetime.now(UTC) + timedelta(days=40), timedelta(days=30))
    assert run_json(app, "access-keys", "list", "--all") == []
    assert "because an operator revoked it" in run(app, "sessions", "why", created["id"]).output


def test_audit_log_has_the_key_s_life(app: Flask, alice: Client) -> None:
    created = create_key(alice)
    by_owner(app, alice, created["id"], "")
    events = run_json(app, "events", "list", "--session", created["id"])
    assert [(event["kind"], event["reason"]) for event in events] == [
        ("access_key_created", None),
        ("access_key_revoked", "revoked_by_user"),
    ]
