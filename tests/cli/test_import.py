"""``flask users import``: create users from a file."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.commandline import Terminal, can_sign_in, check_no_secrets, create_user, error_of, run, run_json
from tests.support.server import run_flask
from tests.support.user_files import CHEAP_HASH, csv_file, jsonl_file, usernames
from tokenapp import db

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
SLOW = {"TOKENAPP_PASSWORD_PASSES": "100", "TOKENAPP_PASSWORD_MEMORY": "8192"}


def test_csv_and_json_lines_have_the_same_fields(app: Flask, tmp_path: Path) -> None:
    first = csv_file(
        tmp_path, f"alice,{PASSWORD},,1", f"bob,,{CHEAP_HASH},2", header="username,password,password_hash,extra"
    )
    second = jsonl_file(
        tmp_path,
        {"username": "carol", "password": PASSWORD, "extra": [1]},
        {"username": "dave", "password_hash": CHEAP_HASH, "password": None},
    )
    for file in (first, second):
        assert run(app, "users", "import", str(file)).stdout == "Imported 2 users; found 0 invalid lines.\n"
    assert all(can_sign_in(app, name) for name in ("alice", "bob", "carol", "dave"))


def test_valid_lines_are_imported_and_invalid_lines_are_reported(app: Flask, tmp_path: Path) -> None:
    file = csv_file(tmp_path, f"alice,{PASSWORD}", "bob,too short", f"carol,{PASSWORD}")
    result = run(app, "users", "import", str(file), code=1)
    assert result.stdout == "Imported 2 users; found 1 invalid line.\n"
    assert result.stderr == "line 3: The password must have at least 15 characters.\n"
    assert usernames(app) == ["alice", "carol"]


@SQLITE
def test_empty_file_of_json_lines_is_accepted(app: Flask, tmp_path: Path) -> None:
    assert run(app, "users", "import", str(jsonl_file(tmp_path))).stdout == "Imported 0 users; found 0 invalid lines.\n"


def test_users_are_imported_from_standard_input(app: Flask, tmp_path: Path) -> None:
    content = csv_file(tmp_path, f"alice,{PASSWORD}").read_bytes()
    result = run(app, "users", "import", "-", "--format", "csv", stdin=content)
    assert result.stdout == "Imported 1 user; found 0 invalid lines.\n"
    assert can_sign_in(app)


@pytest.mark.parametrize("name", ["-", "users", "users.txt", "users.csv.bak"])
@SQLITE
def test_unknown_extension_requires_the_format_option(app: Flask, tmp_path: Path, name: str) -> None:
    file = "-" if name == "-" else str(csv_file(tmp_path, f"alice,{PASSWORD}", name=name))
    assert "give --format" in run(app, "users", "import", file, code=2).stderr
    assert usernames(app) == []


@pytest.mark.parametrize("name", ["users.CSV", "a.b.csv"])
@SQLITE
def test_format_is_derived_from_the_extension(app: Flask, tmp_path: Path, name: str) -> None:
    run(app, "users", "import", str(csv_file(tmp_path, f"alice,{PASSWORD}", name=name)))
    assert usernames(app) == ["alice"]


@SQLITE
def test_format_option_takes_precedence_over_the_extension(app: Flask, tmp_path: Path) -> None:
    file = csv_file(tmp_path, f"alice,{PASSWORD}", name="users.jsonl")
    run(app, "users", "import", str(file), "--format", "csv")
    assert usernames(app) == ["alice"]


@SQLITE
def test_unreadable_file_is_an_error(app: Flask, tmp_path: Path) -> None:
    assert "No such file" in run(app, "users", "import", str(tmp_path / "none.csv"), code=2).stderr
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "Is a directory" in run(app, "users", "import", str(folder), code=2).stderr
    assert "Input/output error" in error_of(run(app, "users", "import", "/proc/self/mem", "--format", "csv", code=1))


def test_dry_run_reports_the_same_lines_and_writes_nothing(app: Flask, tmp_path: Path) -> None:
    create_user(app, "taken")
    file = csv_file(tmp_path, f"alice,{PASSWORD}", "bob,short", f"taken,{PASSWORD}", f"alice,{PASSWORD}")
    result = run(app, "users", "import", str(file), "--dry-run", code=1)
    assert result.stdout == "Would create alice.\nWould import 1 user; found 3 invalid lines.\n"
    assert usernames(app) == ["taken"]
    assert run(app, "users", "import", str(file), code=1).stderr == result.stderr
    assert usernames(app) == ["alice", "taken"]


def test_dry_run_of_valid_lines_exits_with_0(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(csv_file(tmp_path, f"alice,{PASSWORD}")), "--dry-run")
    assert usernames(app) == []


def test_json_report_contains_everything(app: Flask, tmp_path: Path) -> None:
    file = csv_file(tmp_path, f"alice,{PASSWORD}", "bob,short")
    result = run(app, "users", "import", str(file), "--json", "--dry-run", code=1)
    reason = "The password must have at least 15 characters."
    refused = [{"line": 3, "reason": reason}]
    assert json.loads(result.stdout) == {"imported": 1, "refused": refused, "dryRun": True, "users": ["alice"]}
    assert result.stderr == ""
    assert run_json(app, "users", "import", str(file), code=1)["dryRun"] is False


def test_interrupted_import_writes_nothing(app: Flask, database_url: str, tmp_path: Path) -> None:
    people = [f"alice,{CHEAP_HASH},", *(f"user{number},,{PASSWORD}" for number in range(1000))]
    file = csv_file(tmp_path, *people, header="username,password_hash,password")
    with Terminal(database_url, "users", "import", str(file), **SLOW) as terminal:
        terminal.wait_for("Preparing users")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Error: interrupted" in terminal.shown
    assert usernames(app) == []


def test_name_taken_during_the_import_stops_the_whole_import(app: Flask, database_url: str, tmp_path: Path) -> None:
    file = csv_file(tmp_path, *(f"user{number},{PASSWORD}" for number in range(3)))
    with Terminal(database_url, "users", "import", str(file), **SLOW) as terminal:
        terminal.wait_for("Preparing users")
        create_user(app, "user2")
        assert terminal.end() == 1
    assert "Error: A user name was taken during the import. Nothing was imported. Please try again." in terminal.shown
    assert usernames(app) == ["user2"]


@SQLITE
def test_database_error_while_writing_leaves_no_users(app: Flask, tmp_path: Path) -> None:
    create_user(app, "before")
    with app.app_context(), db.writing() as session:
        trigger = "BEFORE INSERT ON users WHEN (SELECT count(*) FROM users) > 1500"
        session.execute(sa.text(f"CREATE TRIGGER full {trigger} BEGIN SELECT no_such_function(); END"))
    file = csv_file(
        tmp_path, *(f"user{number},{CHEAP_HASH}" for number in range(2000)), header="username,password_hash"
    )
    assert "no_such_function" in error_of(run(app, "users", "import", str(file), code=1))
    assert usernames(app) == ["before"]


@SQLITE
def test_progress_bar_is_shown_only_at_a_terminal(app: Flask, database_url: str, tmp_path: Path) -> None:
    file = str(csv_file(tmp_path, f"alice,{PASSWORD}"))
    with Terminal(database_url, "users", "import", file) as terminal:
        assert terminal.end() == 0
    assert "100%" in terminal.shown
    assert "Imported 1 user; found 0 invalid lines." in terminal.shown
    piped = run_flask(database_url, "users", "import", file, FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert (piped.returncode, piped.stdout) == (1, "Imported 0 users; found 1 invalid line.\n")
    assert piped.stderr == "line 2: The user name is taken.\n"
    check_no_secrets(piped.stdout + piped.stderr)
    assert can_sign_in(app)
