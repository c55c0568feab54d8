"""``flask sessions``: list, revoke and prune sessions."""

import json
from collections.abc import Sequence
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.client import claims_of, sign_in
from tests.support.commandline import (
    Terminal,
    can_refresh,
    create_user,
    error_of,
    run,
    run_json,
)
from tests.support.server import run_flask
from tokenapp.db import new_id, writing
from tokenapp.models import Session

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ONE_DAY = timedelta(days=1)


def sids(app: Flask, *options: str) -> list[str]:
    """Return the ids of the listed sessions."""
    return [record["id"] for record in run_json(app, "sessions", "list", *options)]


def add_sessions(app: Flask, user_id: str, number: int, **values: Any) -> None:
    """Insert sessions, by default opened yesterday."""
    now = datetime.now(UTC)
    usual = {"created_at": now - ONE_DAY, "expires_at": now + ONE_DAY, "ends_at": now + 9 * ONE_DAY} | values
    usual |= {"user_id": user_id, "generation": 0, "authenticated_at": usual["created_at"]}
    rows = [usual | {"id": new_id(usual["created_at"]), "current_jti": f"jti-{place}"} for place in range(number)]

    def insert() -> None:
        with app.app_context(), writing() as session:
            session.execute(sa.insert(Session), rows)

    Context().run(insert)


def test_live_sessions_are_listed_oldest_first_with_device_and_address(app: Flask) -> None:
    create_user(app)
    create_user(app, "bob")
    alice, bob = sign_in(app), sign_in(app, "bob")
    first, second = run_json(app, "sessions", "list")
    assert first.keys() == {
        *("id", "username", "createdAt", "lastSeenAt", "expiresAt"),
        *("ipAddress", "userAgent", "revokedAt", "revokedReason"),
    }
    assert (first["id"], first["username"], first["ipAddress"]) == (alice.sid, "alice", "127.0.0.1")
    assert first["userAgent"].startswith("Werkzeug")
    assert (second["id"], second["username"]) == (bob.sid, "bob")


def test_listed_times_change_with_a_refresh(app: Flask) -> None:
    create_user(app)
    alice = sign_in(app)
    (before,) = run_json(app, "sessions", "list")
    assert can_refresh(alice)
    (after,) = run_json(app, "sessions", "list")
    assert before["createdAt"] == before["lastSeenAt"] == after["createdAt"] < after["lastSeenAt"]
    assert before["expiresAt"] < after["expiresAt"]
    assert all(after[name].endswith("Z") for name in ("createdAt", "lastSeenAt", "expiresAt"))


def test_no_listing_shows_a_token_id(app: Flask) -> None:
    create_user(app)
    alice = sign_in(app)
    assert can_refresh(alice)
    assert alice.cookie is not None
    jti = claims_of(alice.cookie)["jti"]
    for options in ([], ["--all"], ["--json"], ["--all", "--json"]):
        assert jti not in run(app, "sessions", "list", *options).output


def test_ended_sessions_are_listed_only_with_all(app: Flask) -> None:
    user_id = create_user(app)
    live, ended = sign_in(app), sign_in(app)
    ended_sid = ended.sid
    ended.logout()
    add_sessions(app, user_id, 1, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert sids(app) == [live.sid]
    records = {record["id"]: record for record in run_json(app, "sessions", "list", "--all")}
    assert len(records) == 3
    assert records[ended_sid]["revokedReason"] == "logout"
    assert records[ended_sid]["revokedAt"].endswith("Z")
    assert "logout" in run(app, "sessions", "list", "--all").stdout


def test_sessions_of_a_user_are_listed_by_any_spelling_of_the_name(app: Flask) -> None:
    create_user(app)
    create_user(app, "bob")
    alice = sign_in(app)
    sign_in(app, "bob")
    assert sids(app, "--user", " ALICE ") == [alice.sid]


def test_unknown_user_is_an_error(app: Flask) -> None:
    for arguments in (
        ["list", "--user", "nobody"],
        ["list", "--user", "nobody", "--json"],
        ["revoke", "--user", "nobody"],
    ):
        result = run(app, "sessions", *arguments, code=1)
        assert error_of(result) == "User not found."
        assert result.stdout == ""


def test_empty_list_is_an_empty_array_or_a_header(app: Flask) -> None:
    assert run(app, "sessions", "list", "--json").stdout == "[]\n"
    assert run(app, "sessions", "list").stdout.split("\t")[:2] == ["id", "username"]


def test_list_contains_all_pages(app: Flask) -> None:
    add_sessions(app, create_user(app), 2001)
    listed = sids(app)
    assert len(listed) == len(set(listed)) == 2001
    assert len(run(app, "sessions", "list", "--user", "alice").stdout.splitlines()) == 2002
    assert run_json(app, "users", "show", "alice")["liveSessions"] == 2001


@SQLITE
@pytest.mark.parametrize("evil", ["\x9b2J", "\u202egnp", "a\tb\nc", "\x1b[31m"])
def test_control_characters_of_a_user_agent_are_replaced(app: Flask, evil: str) -> None:
    add_sessions(app, create_user(app), 1, user_agent=f"[red]{evil}[/red]")
    shown = run(app, "sessions", "list").stdout
    assert len(shown.splitlines()) == 2
    assert all(part.isprintable() for line in shown.split("\n") for part in line.split("\t"))
    assert run(app, "sessions", "list", "--json").stdout.isascii()
    assert run_json(app, "sessions", "list")[0]["userAgent"] == f"[red]{evil}[/red]"


@SQLITE
@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_user_agent_is_no_formula_for_a_spreadsheet(app: Flask, start: str) -> None:
    formula = f'{start}HYPERLINK("https://attacker.example/")'
    add_sessions(app, create_user(app), 1, user_agent=formula)
    cells = run(app, "sessions", "list").stdout.splitlines()[1].split("\t")
    assert cells[-1] == "'" + formula
    assert cells[-2] == "-", "the cell of a missing value is unchanged"
    assert run_json(app, "sessions", "list")[0]["userAgent"] == formula


@SQLITE
def test_table_shows_whole_ids_and_markup_as_text(app: Flask, database_url: str) -> None:
    add_sessions(app, create_user(app), 1, user_agent="[red]\x9b2J" + "long" * 50)
    with Terminal(database_url, "sessions", "list") as terminal:
        assert terminal.end() == 0
    assert sids(app)[0] in terminal.shown
    assert "[red]\ufffd2J" in terminal.shown
    assert "\x9b" not in terminal.shown


def test_revoke_affects_only_the_given_sessions(app: Flask) -> None:
    create_user(app)
    first, second, third = (sign_in(app) for _ in range(3))
    assert run(app, "sessions", "revoke", first.sid, second.sid).stdout == "Revoked 2 sessions.\n"
    assert [can_refresh(client) for client in (first, second, third)] == [False, False, True]
    records = {record["id"]: record for record in run_json(app, "sessions", "list", "--all")}
    assert records[first.sid]["revokedReason"] == "operator"


def test_session_given_twice_is_revoked_once(app: Flask) -> None:
    create_user(app)
    sid = sign_in(app).sid
    assert run(app, "sessions", "revoke", sid, sid).stdout == "Revoked 1 session.\n"


def test_unknown_id_is_an_error_but_the_other_sessions_are_revoked(app: Flask) -> None:
    create_user(app)
    alice = sign_in(app)
    result = run(app, "sessions", "revoke", "unknown", alice.sid, "other", code=1)
    assert error_of(result) == "Session not found: unknown, other."
    assert result.stdout == "Revoked 1 session.\n"
    assert not can_refresh(alice)


def test_revoking_a_revoked_session_is_no_error_and_keeps_the_reason(app: Flask) -> None:
    create_user(app)
    alice = sign_in(app)
    sid = alice.sid
    alice.logout()
    assert run(app, "sessions", "revoke", sid).stdout == "Revoked 0 sessions.\n"
    (record,) = run_json(app, "sessions", "list", "--all")
    assert record["revokedReason"] == "logout"


def test_all_sessions_of_a_user_are_revoked(app: Flask) -> None:
    create_user(app)
    create_user(app, "bob")
    alices, bob = [sign_in(app), sign_in(app)], sign_in(app, "bob")
    assert run(app, "sessions", "revoke", "--user", "Alice").stdout == "Revoked 2 sessions.\n"
    assert not any(can_refresh(client) for client in alices)
    assert can_refresh(bob)
    assert can_refresh(sign_in(app))


@pytest.mark.parametrize(("options", "stdin"), [([], "y\n"), (["--yes"], "")])
def test_all_sessions_are_revoked_after_confirmation(app: Flask, options: Sequence[str], stdin: str) -> None:
    for name in ("alice", "bob"):
        create_user(app, name)
    clients = [sign_in(app, name) for name in ("alice", "bob")]
    result = run(app, "sessions", "revoke", "--everyone", *options, stdin=stdin)
    assert result.stdout == "Revoked 2 sessions.\n"
    assert ("?" in result.stderr) is not bool(options)
    assert not any(can_refresh(client) for client in clients)


@pytest.mark.parametrize("stdin", ["n\n", "\n", ""])
def test_without_confirmation_nothing_is_revoked(app: Flask, stdin: str) -> None:
    create_user(app)
    alice = sign_in(app)
    result = run(app, "sessions", "revoke", "--everyone", stdin=stdin, code=1)
    assert result.stderr.endswith("\nError: Nothing was changed. Answer yes, or give --yes.\n")
    assert can_refresh(alice)


def test_everyone_revokes_more_sessions_than_a_batch(app: Flask) -> None:
    user_id = create_user(app)
    add_sessions(app, user_id, 2001)
    add_sessions(app, user_id, 5, revoked_at=datetime.now(UTC), revoked_reason="logout")
    assert run(app, "sessions", "revoke", "--everyone", "--yes").stdout == "Revoked 2001 sessions.\n"
    assert sids(app) == []
    reasons = [record["revokedReason"] for record in run_json(app, "sessions", "list", "--all")]
    assert (reasons.count("operator"), reasons.count("logout")) == (2001, 5)


@pytest.mark.parametrize(
    "arguments", ["", "--yes", "sid --user alice", "sid --everyone --yes", "--user alice --everyone"]
)
@SQLITE
def test_exactly_one_selection_of_sessions_is_allowed(app: Flask, arguments: str) -> None:
    create_user(app)
    alice = sign_in(app)
    arguments = arguments.replace("sid", alice.sid)
    result = run(app, "sessions", "revoke", *arguments.split(), code=2)
    assert result.stderr.endswith("Error: Give either session ids, or --user, or --everyone.\n")
    assert can_refresh(alice)


@pytest.mark.parametrize("arguments", [["revoke", "a\x00"], ["revoke", "a\udcff"], ["list", "--user", "\udcff"]])
@SQLITE
def test_argument_that_is_not_text_is_rejected(app: Flask, arguments: list[str]) -> None:
    assert "This is not valid text." in run(app, "sessions", *arguments, code=2).stderr


def add_old_and_recent(app: Flask) -> set[str]:
    """Add sessions that ended 40 days ago, and others; return the ids of the others."""
    now = datetime.now(UTC)
    user_id = create_user(app)
    past, recent = now - 40 * ONE_DAY, now - 20 * ONE_DAY
    add_sessions(app, user_id, 1, revoked_at=recent, revoked_reason="logout")
    add_sessions(app, user_id, 1, expires_at=recent, ends_at=recent)
    add_sessions(app, user_id, 1, expires_at=past)
    add_sessions(app, user_id, 1)
    kept = set(sids(app, "--all"))
    add_sessions(app, user_id, 2, revoked_at=past, revoked_reason="logout")
    add_sessions(app, user_id, 3, expires_at=past, ends_at=past)
    return kept


def test_prune_deletes_sessions_that_ended_thirty_days_ago(app: Flask) -> None:
    kept = add_old_and_recent(app)
    result = run(app, "sessions", "prune")
    assert (result.stdout, result.stderr) == ("Deleted 5 sessions.\n", "")
    assert set(sids(app, "--all")) == kept


def test_dry_run_of_prune_only_counts(app: Flask) -> None:
    add_old_and_recent(app)
    before = sids(app, "--all")
    assert run(app, "sessions", "prune", "--dry-run").stdout == "Would delete 5 sessions.\n"
    assert sids(app, "--all") == before


@pytest.mark.parametrize(("age", "deleted"), [("0d", 7), ("19d", 7), ("480h", 7), ("21d", 5), ("39d", 5), ("41d", 0)])
def test_prune_uses_the_given_age(app: Flask, age: str, deleted: int) -> None:
    add_old_and_recent(app)
    assert run(app, "sessions", "prune", "--older-than", age).stdout == f"Deleted {deleted} sessions.\n"


def test_session_with_valid_access_tokens_is_never_pruned(app: Flask) -> None:
    create_user(app)
    alice = sign_in(app)
    alice.logout()
    assert run(app, "sessions", "prune", "--older-than", "0s", "--dry-run").stdout == "Would delete 0 sessions.\n"
    assert run(app, "sessions", "prune", "--older-than", "0s").stdout == "Deleted 0 sessions.\n"
    assert len(sids(app, "--all")) == 1


@pytest.mark.parametrize("age", ["", "30", "d", "-1d", "1.5d", "1w", "3661d", "999999999d", "\u0663d", "1 d", "1d\n"])
@SQLITE
def test_invalid_age_is_rejected(app: Flask, age: str) -> None:
    assert "such as 90s, 15m, 12h or 30d" in run(app, "sessions", "prune", f"--older-than={age}", code=2).stderr


def test_prune_deletes_all_batches(app: Flask) -> None:
    past = datetime.now(UTC) - 40 * ONE_DAY
    add_sessions(app, create_user(app), 2001, expires_at=past, ends_at=past)
    assert run(app, "sessions", "prune").stdout == "Deleted 2001 sessions.\n"
    assert sids(app, "--all") == []


@SQLITE
def test_prune_shows_a_progress_bar_only_at_a_terminal(app: Flask, database_url: str) -> None:
    add_old_and_recent(app)
    with Terminal(database_url, "sessions", "prune") as terminal:
        assert terminal.end() == 0
    assert "Deleting" in terminal.shown
    assert "100%" in terminal.shown
    assert "Deleted 5 sessions." in terminal.shown
    piped = run_flask(database_url, "sessions", "prune", FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert (piped.stdout, piped.stderr) == ("Deleted 0 sessions.\n", "")


@SQLITE
def test_commands_work_in_processes_of_their_own(app: Flask, database_url: str) -> None:
    create_user(app)
    alice = sign_in(app)
    listed = run_flask(database_url, "sessions", "list", "--json")
    (record,) = json.loads(listed.stdout)
    revoked = run_flask(database_url, "sessions", "revoke", record["id"])
    assert (revoked.returncode, revoked.stdout, revoked.stderr) == (0, "Revoked 1 session.\n", "")
    assert not can_refresh(alice)
