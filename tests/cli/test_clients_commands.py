"""``flask clients``: create clients with rights, list, rotate and delete them."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from tests.audit.events import rows_of
from tests.support.client import Client as Http
from tests.support.commandline import error_of, run, run_json
from tests.support.service_clients import ServiceClient, register
from tokenapp import clients, db, errors
from tokenapp.models import AuditEvent, Client

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    ("options", "rights"),
    [
        ([], []),
        (["--right", "feed"], ["feed"]),
        (["--right", "revoke", "--right", "introspect"], ["introspect", "revoke"]),
        (["--right", "feed", "--right", "feed"], ["feed"]),
    ],
)
@SQLITE
def test_client_has_only_the_given_rights(app: Flask, options: list[str], rights: list[str]) -> None:
    assert run_json(app, "clients", "create", "shop", *options)["rights"] == rights
    assert [client["rights"] for client in run_json(app, "clients", "list")] == [rights]


@SQLITE
def test_unknown_right_is_rejected_and_creates_no_client(app: Flask) -> None:
    result = run(app, "clients", "create", "shop", "--right", "everything", code=2)
    assert "'introspect', 'revoke', 'feed'" in result.stderr
    assert run_json(app, "clients", "list") == []


@SQLITE
def test_secret_is_shown_only_when_the_client_is_created(app: Flask) -> None:
    created = dict(line.split("\t") for line in run(app, "clients", "create", "shop").stdout.splitlines())
    assert len(created["secret"]) == 43
    assert created["secret"] not in run(app, "clients", "list").stdout
    assert created["id"] in run(app, "clients", "list").stdout


@SQLITE
def test_client_is_deleted_once(app: Flask) -> None:
    client_id = run_json(app, "clients", "create", "shop")["id"]
    assert run(app, "clients", "delete", client_id, "--yes").stdout == f"Deleted {client_id}.\n"
    assert error_of(run(app, "clients", "delete", client_id, "--yes", code=1)) == "Client not found."


@SQLITE
def test_deletion_asks(app: Flask) -> None:
    run_json(app, "clients", "create", "shop")
    assert "Nothing was changed" in run(app, "clients", "delete", "shop", stdin="n\n", code=1).stderr
    assert run(app, "clients", "delete", "shop", stdin="y\n").stdout.startswith("Deleted client-")
    assert run_json(app, "clients", "list") == []


@SQLITE
def test_name_of_several_clients_is_an_error_and_their_ids_are_not(app: Flask) -> None:
    first, second = (run_json(app, "clients", "create", "shop")["id"] for _ in range(2))
    assert error_of(run(app, "clients", "delete", "shop", "--yes", code=1)).startswith("There are several clients")
    run(app, "clients", "delete", first, "--yes")
    assert run(app, "clients", "delete", "shop", "--yes").stdout == f"Deleted {second}.\n"


def accepted(app: Flask, client_id: str, secret: str) -> bool:
    return ServiceClient(Http(app), client_id, secret).post("/api/introspect", token="none").status == 200


def test_new_secret_replaces_the_old_one_at_once(app: Flask) -> None:
    shop = register(app)
    rotated = run_json(app, "clients", "rotate", "shop")
    assert (rotated["id"], len(rotated["secret"])) == (shop.id, 43)
    assert accepted(app, shop.id, rotated["secret"])
    assert not accepted(app, shop.id, shop.secret)


def test_old_secret_is_accepted_until_the_overlap_ends(app: Flask) -> None:
    shop, now = register(app), datetime.now(UTC)
    secret = run_json(app, "clients", "rotate", shop.id, "--overlap", "1h")["secret"]
    assert accepted(app, shop.id, shop.secret)
    assert accepted(app, shop.id, secret)
    with app.app_context():
        clients.authenticate(shop.id, secret, "introspect", now + timedelta(hours=2))
        clients.authenticate(shop.id, shop.secret, "introspect", now + timedelta(minutes=59))
        with pytest.raises(errors.InvalidClient):
            clients.authenticate(shop.id, shop.secret, "introspect", now + timedelta(minutes=61))


def test_secret_before_the_previous_one_is_rejected(app: Flask) -> None:
    shop = register(app)
    for _ in range(2):
        run(app, "clients", "rotate", "shop", "--overlap", "1h")
    assert not accepted(app, shop.id, shop.secret)


def test_rotation_at_once_also_ends_an_overlap(app: Flask) -> None:
    shop = register(app)
    second = run_json(app, "clients", "rotate", "shop", "--overlap", "1h")["secret"]
    run(app, "clients", "rotate", "shop")
    assert not accepted(app, shop.id, shop.secret)
    assert not accepted(app, shop.id, second)


@SQLITE
def test_rotation_is_an_event_with_the_id_of_the_client(app: Flask) -> None:
    shop = register(app)
    run(app, "clients", "rotate", "shop")
    events = [(event.kind, event.reason) for event in rows_of(app, AuditEvent)]
    assert ("client_secret_rotated", shop.id) in events
    assert error_of(run(app, "clients", "rotate", "nobody", code=1)) == "Client not found."


def last_use(app: Flask) -> datetime | None:
    (client,) = rows_of(app, Client)
    return client.last_used_at  # type: ignore[no-any-return]


def test_last_use_is_stored_once_a_minute(app: Flask) -> None:
    shop, minute = register(app), datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    assert last_use(app) is None
    for seconds, expected in ((20, 0), (59, 0), (61, 60), (10, 60)):
        with app.app_context():
            clients.authenticate(shop.id, shop.secret, "feed", minute + timedelta(seconds=seconds))
        assert last_use(app) == minute + timedelta(seconds=expected)


@SQLITE
def test_second_use_within_a_minute_writes_nothing(app: Flask) -> None:
    shop, minute = register(app), datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    with app.app_context():
        clients.authenticate(shop.id, shop.secret, "feed", minute)
        with db.writing():  # a write of another would wait for this one until its time is over
            clients.authenticate(shop.id, shop.secret, "feed", minute + timedelta(seconds=59))


@SQLITE
def test_rejected_credentials_are_no_use(app: Flask) -> None:
    shop = register(app, rights=["feed"])
    assert not accepted(app, shop.id, "wrong")
    assert not accepted(app, shop.id, shop.secret)
    assert last_use(app) is None


@SQLITE
def test_last_use_is_listed(app: Flask) -> None:
    shop = register(app)
    assert accepted(app, shop.id, shop.secret)
    (listed,) = run_json(app, "clients", "list")
    assert listed["lastUsedAt"].endswith(":00Z")
