"""``flask users``: create, list, disable and enable users, and set passwords."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import click
import pytest
import sqlalchemy as sa
from flask import Flask

from tests.conftest import Databases
from tests.support.app import PASSWORD, ROOT, application, environment, make_app
from tests.support.client import Client, sign_in
from tests.support.commandline import (
    BOXES_AND_COLOURS,
    NEW_PASSWORD,
    Terminal,
    can_refresh,
    can_sign_in,
    check_no_secrets,
    create_user,
    error_of,
    run,
    run_json,
)
from tests.support.server import run_flask
from tokenapp.cli import clients, events, keys, sessions, users
from tokenapp.db import db
from tokenapp.models import User

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
COMMANDS = [
    (module.group.name, name)
    for module in (users, sessions, events, keys, clients)
    for name in (None, *sorted(module.group.list_commands(click.Context(module.group))))
]


@pytest.fixture(scope="module")
def unchanged_app(databases: Databases) -> Flask:
    """Return an application for commands that change nothing."""
    return make_app(databases("sqlite"))


@pytest.mark.parametrize(("group", "command"), COMMANDS)
def test_every_command_has_a_help_text(unchanged_app: Flask, group: str, command: str | None) -> None:
    shown = run(unchanged_app, *filter(None, (group, command)), "--help").stdout
    sentence = shown.split("\n\n")[1]
    assert len(sentence.split()) >= 4
    assert sentence.strip().startswith(sentence.strip()[0].upper())


def test_created_user_can_sign_in(app: Flask) -> None:
    assert run(app, "users", "create", "alice", stdin=PASSWORD + "\n").stdout == "Created the user alice.\n"
    assert can_sign_in(app)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nanother line\n"])
def test_password_is_the_first_line_without_its_line_end(app: Flask, end: str) -> None:
    run(app, "users", "create", "alice", stdin=f"  {PASSWORD} {end}")
    assert can_sign_in(app, password=f"  {PASSWORD} ")


@SQLITE
def test_byte_order_mark_is_no_part_of_the_password(app: Flask) -> None:
    run(app, "users", "create", "alice", stdin=f"\ufeff{PASSWORD}\r\n")
    assert can_sign_in(app)


def test_user_is_created_with_the_canonical_name(app: Flask) -> None:
    run(app, "users", "create", "  ALICE ", stdin=PASSWORD)
    assert [user["username"] for user in run_json(app, "users", "list")] == ["alice"]


@pytest.mark.parametrize("name", ["alice", "ALICE", "\uff41lice"])
def test_taken_name_is_rejected_in_every_spelling(app: Flask, name: str) -> None:
    create_user(app)
    result = run(app, "users", "create", name, stdin=NEW_PASSWORD, code=1)
    assert error_of(result) == "The user name is taken."
    assert not can_sign_in(app, password=NEW_PASSWORD)


def test_if_missing_does_not_change_an_existing_user(app: Flask) -> None:
    create_user(app)
    result = run(app, "users", "create", "Alice", "--if-missing", stdin=NEW_PASSWORD)
    assert result.stdout == "The user alice already exists.\n"
    assert can_sign_in(app)
    assert not can_sign_in(app, password=NEW_PASSWORD)


def test_if_missing_creates_a_missing_user(app: Flask) -> None:
    run(app, "users", "create", "alice", "--if-missing", stdin=PASSWORD)
    assert can_sign_in(app)


@pytest.mark.parametrize(
    ("name", "stdin", "words"),
    [
        ("alice", b"", "No password on standard input"),
        ("alice", b"\n", "No password on standard input"),
        ("alice", b"too short", "at least 15 characters"),
        ("alice", b"x" * 1025, "at most 1024 bytes"),
        ("alice", b"y" * 100_000, "at most 1024 bytes"),
        ("alice", b"alice alice alice", "too easy to guess"),
        ("alice", b"long enough but with \x00", "NUL"),
        ("alice", b"long enough but with \xff", "UTF-8"),
        ("alice", b"long enough but with \xed\xa0\x80", "UTF-8"),
        ("", PASSWORD.encode(), "1 to 254 characters"),
        ("a" * 255, PASSWORD.encode(), "1 to 254 characters"),
        ("al\nice", PASSWORD.encode(), "control or invisible"),
        ("alic\u0435", PASSWORD.encode(), "scripts"),
    ],
)
@SQLITE
def test_invalid_user_is_an_error_of_one_line(app: Flask, name: str, stdin: bytes, words: str) -> None:
    assert words in error_of(run(app, "users", "create", name, stdin=stdin, code=1))
    assert run_json(app, "users", "list") == []


@pytest.mark.parametrize("name", ["al\x00ice", "al\udcffice"])
@pytest.mark.parametrize("command", ["create", "show", "disable", "enable", "set-password"])
def test_name_that_is_not_text_is_rejected(app: Flask, command: str, name: str) -> None:
    assert "Error: Invalid value for 'NAME'" in run(app, "users", command, name, stdin=PASSWORD, code=2).stderr


@SQLITE
def test_password_cannot_be_given_on_the_command_line(app: Flask) -> None:
    for option in ("--password", "--password=secret words here"):
        assert "No such option" in run(app, "users", "create", "alice", option, code=2).stderr
    assert "unexpected extra argument" in run(app, "users", "create", "alice", "secret words here", code=2).stderr


@SQLITE
def test_terminal_prompts_twice_for_the_password_without_showing_it(database_url: str, app: Flask) -> None:
    with Terminal(database_url, "users", "create", "alice") as terminal:
        terminal.wait_for("Password: ")
        terminal.type(NEW_PASSWORD)
        terminal.wait_for("Repeat for confirmation: ")
        terminal.type(PASSWORD)
        terminal.wait_for("do not match")
        for prompt in ("Password: ", "Repeat for confirmation: "):
            terminal.shown = terminal.shown.partition("match")[2]
            terminal.wait_for(prompt)
            terminal.type(PASSWORD)
        assert terminal.end() == 0
    assert can_sign_in(app)


@pytest.mark.parametrize(("command", "was"), [("create", None), ("set-password", PASSWORD)])
@SQLITE
def test_terminal_asks_again_until_the_password_is_strong(
    database_url: str, app: Flask, command: str, was: str | None
) -> None:
    if was:
        create_user(app)
    with Terminal(database_url, "users", command, "alice") as terminal:
        for weak, reason in (("short", "at least 15 characters"), ("alice alice alice", "too easy to guess")):
            terminal.wait_for("Password: ")
            terminal.shown = ""
            terminal.type(weak)
            terminal.wait_for(reason)
        for prompt in ("Password: ", "Repeat for confirmation: "):
            terminal.wait_for(prompt)
            terminal.type(NEW_PASSWORD)
        assert terminal.end() == 0
    assert can_sign_in(app, password=NEW_PASSWORD)


@SQLITE
def test_ctrl_c_at_the_prompt_is_an_error_of_one_line(database_url: str, app: Flask) -> None:
    with Terminal(database_url, "users", "create", "alice") as terminal:
        terminal.wait_for("Password: ")
        terminal.interrupt()
        assert terminal.end() == 130
    assert terminal.shown.endswith("Error: interrupted\r\n")
    assert run_json(app, "users", "list") == []


@SQLITE
def test_taken_name_is_rejected_before_the_password_prompt(database_url: str, app: Flask) -> None:
    create_user(app)
    with Terminal(database_url, "users", "create", "alice") as terminal:
        assert terminal.end() == 1
    assert terminal.shown == "Error: The user name is taken.\r\n"


def test_list_is_sorted_and_tab_separated(app: Flask) -> None:
    ids = {name: create_user(app, name) for name in ("carol", "alice", "bob")}
    run(app, "users", "disable", "bob")
    lines = [line.split("\t") for line in run(app, "users", "list").stdout.splitlines()]
    assert lines[0] == ["username", "id", "created at", "disabled at"]
    assert [(line[0], line[1]) for line in lines[1:]] == sorted(ids.items())
    assert [line[3] == "-" for line in lines[1:]] == [True, False, True]


def test_json_list_has_the_names_and_times_of_the_api(app: Flask) -> None:
    alice = create_user(app)
    (record,) = run_json(app, "users", "list")
    assert record.keys() == {"id", "username", "createdAt", "disabledAt"}
    assert (record["id"], record["username"], record["disabledAt"]) == (alice, "alice", None)
    assert record["createdAt"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(record["createdAt"])).total_seconds()) < 60


def test_list_without_users_is_an_empty_array(app: Flask) -> None:
    assert run(app, "users", "list", "--json").stdout == "[]\n"


def test_list_contains_all_pages(app: Flask) -> None:
    names = [f"user{number:04}" for number in range(2001)]
    stored = "pbkdf2:sha256:1000$salt$" + "0" * 64
    lines = ["username,password_hash", *(f"{name},{stored}" for name in reversed(names))]
    run(app, "users", "import", "-", "--format", "csv", stdin="\n".join(lines))
    assert [user["username"] for user in run_json(app, "users", "list")] == names
    assert len(run(app, "users", "list").stdout.splitlines()) == 2002


@SQLITE
def test_piped_output_is_plain_even_with_force_color(database_url: str, app: Flask) -> None:
    create_user(app)
    shown = run_flask(database_url, "users", "list", FORCE_COLOR="1", TTY_COMPATIBLE="1", CLICOLOR_FORCE="1")
    assert "alice\t" in shown.stdout
    assert not set(BOXES_AND_COLOURS) & set(shown.stdout + shown.stderr)


@SQLITE
def test_terminal_shows_a_table_with_whole_ids(database_url: str, app: Flask) -> None:
    alice = create_user(app)
    with Terminal(database_url, "users", "list") as terminal:
        assert terminal.end() == 0
    assert "─" in terminal.shown
    assert alice in terminal.shown
    assert "\t" not in terminal.shown


@SQLITE
def test_name_outside_the_output_encoding_is_escaped(database_url: str, app: Flask) -> None:
    create_user(app, "жук")
    shown = run_flask(database_url, "users", "list", PYTHONIOENCODING="latin-1")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert r"\u0436" in shown.stdout


@SQLITE
def test_closed_output_causes_no_traceback(database_url: str, app: Flask) -> None:
    create_user(app)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "flask", "users", "list"]
    env = environment(DATABASE_URL=database_url)
    ended = subprocess.run(command, cwd=ROOT, env=env, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_user_is_shown_with_the_number_of_live_sessions(app: Flask) -> None:
    alice = create_user(app)
    sign_in(app)
    assert sign_in(app).logout().status == 204
    shown = run_json(app, "users", "show", "Alice")
    assert (shown["id"], shown["username"], shown["liveSessions"]) == (alice, "alice", 1)
    assert (shown["disabledAt"], shown["deletedAt"]) == (None, None)
    lines = dict(line.split("\t") for line in run(app, "users", "show", "alice").stdout.splitlines())
    assert (lines["id"], lines["username"], lines["disabled at"], lines["live sessions"]) == (alice, "alice", "-", "1")


@pytest.mark.parametrize("command", ["show", "disable", "enable", "set-password"])
def test_unknown_user_is_an_error(app: Flask, command: str) -> None:
    result = run(app, "users", command, "nobody", stdin=PASSWORD, code=1)
    assert error_of(result) == "User not found."
    assert result.stdout == ""


def test_disabled_user_can_neither_sign_in_nor_refresh(app: Flask) -> None:
    create_user(app)
    create_user(app, "bob")
    alice, bob = sign_in(app), sign_in(app, "bob")
    assert run(app, "users", "disable", "alice").stdout == "Disabled the user alice and revoked 1 session.\n"
    assert not can_refresh(alice)
    assert not can_sign_in(app)
    assert can_refresh(bob)
    assert run_json(app, "users", "show", "alice")["disabledAt"] is not None


def test_disabling_twice_keeps_the_first_time(app: Flask) -> None:
    create_user(app)
    run(app, "users", "disable", "alice")
    first = run_json(app, "users", "show", "alice")["disabledAt"]
    assert run(app, "users", "disable", "alice").stdout == "Disabled the user alice and revoked 0 sessions.\n"
    assert run_json(app, "users", "show", "alice")["disabledAt"] == first


def test_enabled_user_can_sign_in_but_sessions_stay_revoked(app: Flask) -> None:
    create_user(app)
    before = sign_in(app)
    run(app, "users", "disable", "alice")
    assert run(app, "users", "enable", "alice").stdout == "Enabled the user alice.\n"
    assert can_sign_in(app)
    assert not can_refresh(before)


@SQLITE
def test_unknown_user_cannot_be_unlocked(app: Flask) -> None:
    assert error_of(run(app, "users", "unlock", "nobody", code=1)) == "User not found."


def test_unlock_ends_the_lockout(app: Flask) -> None:
    create_user(app)
    client = Client(app)
    assert [client.login(password="not the password at all").status for _ in range(6)] == [401] * 5 + [429]
    assert run(app, "users", "unlock", " Alice ").stdout == "Unlocked alice.\n"
    assert can_sign_in(app)
    (event,) = run_json(app, "events", "list", "--kind", "user_unlocked")
    assert event["kind"] == "user_unlocked"


def test_new_password_revokes_all_sessions(app: Flask) -> None:
    create_user(app)
    before = [sign_in(app), sign_in(app)]
    shown = run(app, "users", "set-password", "alice", stdin=NEW_PASSWORD)
    assert shown.stdout == "Changed the password of alice and revoked 2 sessions.\n"
    assert not any(can_refresh(client) for client in before)
    assert not can_sign_in(app)
    assert can_sign_in(app, password=NEW_PASSWORD)


def test_rejected_new_password_changes_nothing(app: Flask) -> None:
    create_user(app)
    before = sign_in(app)
    assert "at least 15" in error_of(run(app, "users", "set-password", "alice", stdin="short", code=1))
    assert can_refresh(before)
    assert can_sign_in(app)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, databases: Databases) -> str:
    """Return a database without tables."""
    url = databases(request.param)
    with application(url) as app:
        run(app, "db", "downgrade", "base")
    return url


@pytest.mark.parametrize("command", [("users", "list"), ("users", "list", "--json"), ("sessions", "prune")])
def test_database_without_tables_is_an_error_that_names_the_remedy(empty_url: str, command: tuple[str, ...]) -> None:
    error = error_of(run(make_app(empty_url), *command, code=1))
    assert error.startswith("the database is not migrated")
    assert error.endswith("run `flask db upgrade`")


@pytest.mark.parametrize(
    "url", ["postgresql://postgres:pass-phrase@127.0.0.1:1/none", "sqlite:////no/such/folder/tokenapp.db"]
)
@pytest.mark.parametrize("command", ["users list", "users show alice", "users create alice", "sessions list --json"])
def test_unavailable_database_is_an_error_of_one_line(url: str, command: str) -> None:
    ended = run(make_app(url), *command.split(), stdin=PASSWORD, code=1)
    assert ended.stdout == ""
    assert error_of(ended).startswith("the database is unavailable or rejected the query: ")
    assert "pass-phrase" not in ended.stderr


def test_error_is_one_line_in_a_process_of_its_own() -> None:
    ended = run_flask("postgresql://postgres:pass-phrase@127.0.0.1:1/none", "users", "list")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: the database is unavailable or rejected the query: ")
    assert ended.stderr.count("\n") == 1
    assert "pass-phrase" not in ended.stderr


@SQLITE
def test_commands_work_in_processes_of_their_own(database_url: str, app: Flask) -> None:
    created = run_flask(database_url, "users", "create", "alice", stdin=PASSWORD + "\n")
    assert (created.returncode, created.stdout, created.stderr) == (0, "Created the user alice.\n", "")
    listed = run_flask(database_url, "users", "list", "--json")
    assert [user["username"] for user in json.loads(listed.stdout)] == ["alice"]
    check_no_secrets(created.stdout + listed.stdout + listed.stderr)
    assert can_sign_in(app)


@SQLITE
def test_bug_is_not_converted_to_an_error_of_one_line(app: Flask) -> None:
    @app.cli.command("unused", cls=users.group.command_class)
    def broken() -> None:
        raise AssertionError

    result = app.test_cli_runner().invoke(args=["unused"])
    assert isinstance(result.exception, AssertionError)


@SQLITE
def test_password_is_stored_as_an_argon2id_hash(app: Flask) -> None:
    run(app, "users", "create", "alice", stdin=PASSWORD)
    with app.app_context():
        stored = db.session.scalars(sa.select(User.password_hash)).one()
    assert stored.startswith("$argon2id$")
    assert PASSWORD not in stored
