"""Find users by name or id: odd names, the list, and the details of one user."""

from datetime import UTC, datetime

import pytest
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.client import Client, sign_in
from tests.support.commandline import NEW_PASSWORD, create_user, error_of, run, run_json
from tokenapp import accounts

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize("name", ["-x", "-", "--jason", "-help", "-1"])
@SQLITE
def test_name_that_begins_with_a_dash_needs_no_separator(app: Flask, name: str) -> None:
    assert run(app, "users", "create", name, stdin=PASSWORD).stdout == f"Created the user {name}.\n"
    assert run_json(app, "users", "show", name)["username"] == name
    assert run(app, "users", "disable", name).stdout.startswith(f"Disabled the user {name}")
    assert run(app, "users", "delete", "--yes", name).stdout.startswith(f"Deleted the user {name}")
    assert run_json(app, "users", "list") == []


@SQLITE
def test_user_with_the_name_of_an_option_is_found_by_id(app: Flask) -> None:
    user_id = create_user(app, "--help")
    assert run_json(app, "users", "show", user_id)["username"] == "--help"
    assert run(app, "users", "rename", user_id, "helen").stdout == "Renamed the user --help to helen.\n"


@SQLITE
def test_mistyped_option_is_an_error(app: Flask) -> None:
    create_user(app)
    assert "No such option '--jsno'" in run(app, "users", "show", "alice", "--jsno", code=2).stderr
    assert "No such option '--serach'" in run(app, "users", "list", "--serach", "x", code=2).stderr


@pytest.mark.parametrize(
    "command",
    ["show {}", "disable {}", "enable {}", "unlock {}", "set-password {}", "rename {} carol", "delete {} --yes"],
)
def test_id_is_taken_in_place_of_a_name(app: Flask, command: str) -> None:
    user_id = create_user(app)
    create_user(app, "bob")
    run(app, "users", *command.format(user_id).split(), stdin=NEW_PASSWORD)
    run(app, "users", *command.format("bob").replace("carol", "carla").split(), stdin=NEW_PASSWORD)


@SQLITE
def test_id_is_taken_by_every_option_for_a_user(app: Flask) -> None:
    user_id = create_user(app)
    sid = sign_in(app).sid
    assert [session["id"] for session in run_json(app, "sessions", "list", "--user", user_id)] == [sid]
    assert {event["userId"] for event in run_json(app, "events", "list", "--user", user_id)} == {user_id}
    assert sid in run(app, "sessions", "why", user_id).stdout
    assert run(app, "sessions", "revoke", "--user", user_id).stdout == "Revoked 1 session.\n"


def test_name_that_equals_the_id_of_another_user_is_ambiguous(app: Flask) -> None:
    now = datetime.now(UTC)
    with app.app_context():
        alice = accounts.draft(accounts.NewUser("alice", PASSWORD), now)
        alice.id = "0123456789abcdef"  # a name has no capital letters, and few ids have none
        accounts.add_all([alice], now)
    create_user(app, "0123456789abcdef")
    assert "id of another" in error_of(run(app, "users", "disable", "0123456789abcdef", code=1))
    assert run(app, "users", "disable", "alice").stdout.startswith("Disabled the user alice")


def test_list_is_searched_and_limited(app: Flask) -> None:
    for name in ("alice", "alan", "bob", "50%", "under_score"):
        create_user(app, name)

    def names(*options: str) -> list[str]:
        return [user["username"] for user in run_json(app, "users", "list", *options)]

    assert names("--search", "AL") == ["alan", "alice"]
    assert names("--search", "LICE") == ["alice"]
    assert names("--search", "%") == ["50%"]
    assert names("--search", "_") == ["under_score"]
    assert names("--search", "nobody") == []
    run(app, "users", "create", "carol", "--email", "Carol@Example.com", stdin=PASSWORD)
    assert names("--search", "EXAMPLE") == ["carol"]
    run(app, "users", "delete", "carol", "--yes")
    assert names("--limit", "2") == ["50%", "alan"]
    assert names("--search", "al", "--limit", "1") == ["alan"]
    assert run(app, "users", "list", "--limit", "0", code=2).stdout == ""


def test_user_is_shown_with_lockout_and_times(app: Flask) -> None:
    create_user(app)
    shown = run_json(app, "users", "show", "alice")
    assert (shown["failures"], shown["lockedUntil"], shown["lastSignInAt"]) == (0, None, None)
    sign_in(app)
    for _ in range(5):
        Client(app).login(password="not the password at all")
    shown = run_json(app, "users", "show", "alice")
    assert shown["failures"] == 5
    wait = datetime.fromisoformat(shown["lockedUntil"]) - datetime.now(UTC)
    assert 0 < wait.total_seconds() <= 30
    assert shown["lastSignInAt"] >= shown["passwordChangedAt"] == shown["createdAt"]
    run(app, "users", "set-password", "alice", stdin=NEW_PASSWORD)
    changed = run_json(app, "users", "show", "alice")
    assert changed["passwordChangedAt"] > shown["passwordChangedAt"]
    assert (changed["failures"], changed["lockedUntil"]) == (0, None)
