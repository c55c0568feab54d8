"""The lists of commands: tables within 80 columns, whole ids, search and limit."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import create_user
from tests.support.client import Client, sign_in
from tests.support.commandline import Terminal, run, run_json
from tests.support.service_clients import register
from tokenapp import accounts, db, sessions
from tokenapp.models import Client as Service
from tokenapp.models import Device, Session

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LONG_NAME = "a-user-with-a-name-of-60-characters-which-must-be-broken-up-"
IPV6 = "2001:db8:1234:5678:9abc:def0:1234:5678"
AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)
LISTS = {
    "users list": ("id",),
    "sessions list": ("id",),
    "sessions list --all": ("id",),
    "events list": ("sid",),
    "clients list": ("id",),
    "keys list": ("kid",),
    "mail list": ("id",),
}


def fill(app: Flask) -> None:
    """Store the widest values of each column."""
    now = datetime.now(UTC)
    for name in ("alice", LONG_NAME):
        create_user(app, name)
        with app.app_context():
            grant = sessions.open_session(accounts.find(name), now, Device(IPV6, AGENT))
            sessions.open_session(accounts.find(name), now, Device("192.0.2.7", "curl/8.0"))
            sessions.revoke(grant.sid, "signed_out_everywhere", now)
    sign_in(app)  # which creates the keys
    Client(app).login(password="not the password at all")
    register(app, "a service whose name is rather long, too")
    run(app, "users", "invite", "alice@example.com")
    with app.app_context():
        db.execute_now(sa.update(Service).values(last_used_at=now))


@pytest.mark.parametrize("term", ["xterm", "dumb"])
@SQLITE
def test_tables_fit_into_80_columns_with_whole_ids(database_url: str, app: Flask, term: str) -> None:
    fill(app)
    for command in LISTS if term == "xterm" else ["sessions list"]:
        ids = {record[name] for record in run_json(app, *command.split()) for name in LISTS[command] if record[name]}
        with Terminal(database_url, *command.split(), TERM=term, COLUMNS="80") as terminal:
            assert terminal.end() == 0
        lines = click.unstyle(terminal.shown).splitlines()
        assert max(map(len, lines)) <= 80, terminal.shown
        assert ids
        assert not [each for each in ids if each not in terminal.shown], terminal.shown


@SQLITE
def test_wide_terminal_shows_each_record_in_one_line_per_field(database_url: str, app: Flask) -> None:
    create_user(app)
    with Terminal(database_url, "users", "list", COLUMNS="120") as terminal:
        assert terminal.end() == 0
    (row,) = [line for line in terminal.shown.splitlines() if "alice" in line]
    assert datetime.now(UTC).strftime("%Y-%m-%d %H:") in row


@SQLITE
def test_piped_lists_have_whole_ids_and_all_columns(app: Flask) -> None:
    fill(app)
    for command, names in LISTS.items():
        shown = run(app, *command.split()).stdout
        ids = {record[name] for record in run_json(app, *command.split()) for name in names if record[name]}
        assert not [each for each in ids if each not in shown]
        assert len({line.count("\t") for line in shown.splitlines()}) == 1


def test_events_have_the_name_of_their_user(app: Flask) -> None:
    create_user(app)
    create_user(app, "bob")
    sign_in(app, "bob")
    Client(app).login("nobody")
    listed = [(event["kind"], event["username"]) for event in run_json(app, "events", "list")]
    assert ("sign_in", "bob") in listed
    assert ("sign_in_failed", None) in listed
    assert {name for _, name in listed} == {None, "alice", "bob"}
    assert "username" in run(app, "events", "list").stdout.splitlines()[0].split("\t")
    run(app, "users", "rename", "bob", "robert")
    assert {event["username"] for event in run_json(app, "events", "list", "--user", "robert")} == {"robert"}


def test_limit_lists_the_newest_events_oldest_first(app: Flask) -> None:
    create_user(app)
    for _ in range(3):
        sign_in(app)
    everything = [event["id"] for event in run_json(app, "events", "list")]
    assert [event["id"] for event in run_json(app, "events", "list", "--limit", "2")] == everything[-2:]
    assert [event["id"] for event in run_json(app, "events", "list", "--limit", "1000")] == everything
    assert run_json(app, "events", "list", "--limit", "1", "--kind", "user_created")[0]["id"] == everything[0]


def test_limit_lists_the_newest_sessions_oldest_first(app: Flask) -> None:
    create_user(app)
    sids = [sign_in(app).sid for _ in range(3)]
    assert [session["id"] for session in run_json(app, "sessions", "list", "--limit", "2")] == sids[1:]


def test_mails_are_limited_to_the_newest_and_searched(app: Flask) -> None:
    for name in ("alice", "bob", "carol"):
        run(app, "users", "invite", f"{name}@example.com")
    ids = [mail["id"] for mail in run_json(app, "mail", "list")]
    assert [mail["id"] for mail in run_json(app, "mail", "list", "--limit", "2")] == ids[1:]
    assert [mail["id"] for mail in run_json(app, "mail", "list", "--search", "QUEUED")] == ids
    assert run_json(app, "mail", "list", "--search", "failed", "--limit", "2") == []


@pytest.mark.parametrize(("text", "found"), [("192.0.2.7", 1), ("FIREFOX", 1), ("ALI", 2), ("%", 0), ("opera", 0)])
def test_sessions_are_searched_by_user_address_and_browser(app: Flask, text: str, found: int) -> None:
    create_user(app)
    create_user(app, "bob")
    now = datetime.now(UTC)
    with app.app_context():
        for name, device in (
            ("alice", ("192.0.2.7", "Edge")),
            ("alice", ("192.0.2.8", "Firefox")),
            ("bob", ("::1", "x")),
        ):
            sessions.open_session(accounts.find(name), now, Device(*device))
    assert len(run_json(app, "sessions", "list", "--search", text)) == found


def test_events_are_searched_by_address_request_and_reason(app: Flask) -> None:
    create_user(app)
    sign_in(app)
    Client(app).login(password="not the password at all")
    (failed,) = searched(app, "WRONG pass")
    assert failed["kind"] == "sign_in_failed"
    assert [event["id"] for event in searched(app, failed["requestId"])] == [failed["id"]]
    assert {event["actor"] for event in searched(app, "127.0.0.1")} == {"request"}
    assert searched(app, "192.0.2") == []


def searched(app: Flask, text: str) -> list[Any]:
    listed: list[Any] = run_json(app, "events", "list", "--search", text)
    return listed


@SQLITE
def test_session_of_an_unknown_browser_is_listed_as_it_calls_itself(database_url: str, app: Flask) -> None:
    create_user(app)
    with app.app_context():
        sessions.open_session(accounts.find("alice"), datetime.now(UTC), Device("192.0.2.7", "inventory 7"))
        db.execute_now(sa.update(Session).values(expires_at=datetime.now(UTC) + timedelta(days=1)))
    with Terminal(database_url, "sessions", "list", COLUMNS="100") as terminal:
        assert terminal.end() == 0
    assert "inventory 7" in terminal.shown
