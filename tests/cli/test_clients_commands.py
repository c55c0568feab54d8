"""``flask clients``: create clients with rights, list and delete them."""

import pytest
from flask import Flask

from tests.support.commandline import error_of, run, run_json

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
    assert run(app, "clients", "delete", client_id).stdout == f"Deleted {client_id}.\n"
    assert error_of(run(app, "clients", "delete", client_id, code=1)) == "Client not found."
