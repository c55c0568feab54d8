"""``flask users import --without-password``: users whose hash cannot be used."""

from contextvars import Context
from pathlib import Path

import pytest
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.client import Client
from tests.support.commandline import NEW_PASSWORD, can_sign_in, error_of, run, run_json
from tests.support.user_files import CHEAP_HASH, csv_file, invalid_lines, jsonl_file, usernames
from tokenapp import passwords

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
UNUSABLE = {
    "$6$salt$hash": "($6$)",
    "$1$salt$hash": "($1$)",
    "$P$B12345678": "($P$)",
    "$y$j9T$salt$hash": "($y$)",
    "{SSHA}c2VjcmV0": "({SSHA})",
    "pbkdf2_sha256$600000$salt$hash": "(pbkdf2_sha256$)",
    "bcrypt_sha256$$2b$12$salt": "(bcrypt_sha256$)",
    "md5$salt$hash": "(md5$)",
    "5f4dcc3b5aa765d61d8327deb882cf99": "Werkzeug.",
    "!unusable": "Werkzeug.",
    "hunter2$hunter2": "Werkzeug.",
    "$2b$31$abcdefghijklmnopqrstuuJ1g6hS8Yp5oZ1gV1bR1qYy7oQ0pS5bK": "bcrypt with a cost of 31",
}


def test_user_without_a_usable_hash_gets_a_password_from_the_operator(app: Flask, tmp_path: Path) -> None:
    file = csv_file(tmp_path, f"alice,{CHEAP_HASH}", "bob,md5$salt$hash", "carol,", header="username,password_hash")
    result = run(app, "users", "import", str(file), "--without-password")
    assert result.stdout == "Imported 3 users (2 without a password); found 0 invalid lines.\n"
    assert result.stderr.splitlines() == [
        "line 3: without a password: The password hash is neither an argon2 hash nor one of bcrypt or Werkzeug (md5$).",
        "line 4: without a password: The line has neither a password nor a password_hash.",
    ]
    for name in ("bob", "carol"):
        assert not can_sign_in(app, name, "")
        assert not can_sign_in(app, name)
        run(app, "users", "set-password", name, stdin=NEW_PASSWORD)
        assert can_sign_in(app, name, NEW_PASSWORD)
    assert can_sign_in(app)


@SQLITE
def test_response_is_that_of_an_unknown_user(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(csv_file(tmp_path, "bob", header="username")), "--without-password")
    known, unknown = (Client(app).login(name, "a wrong password") for name in ("bob", "nobody"))
    assert (known.status, known.json["code"]) == (unknown.status, unknown.json["code"]) == (401, "invalid_credentials")


def test_unknown_names_do_not_imitate_users_without_a_password(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(csv_file(tmp_path, "bob", header="username")), "--without-password")
    run(app, "users", "import", str(csv_file(tmp_path, f"alice,{CHEAP_HASH}", header="username,password_hash")))
    with app.app_context():
        kinds = {passwords.kind_for(f"user{number}") for number in range(50)}
    assert kinds == {"pbkdf2:sha256:1000"}


@SQLITE
def test_doctor_does_not_call_a_missing_hash_malformed(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(csv_file(tmp_path, "bob", header="username")), "--without-password")
    assert "malformed" not in Context().run(app.test_cli_runner().invoke, args=["doctor"]).output


@SQLITE
def test_without_the_option_such_lines_are_invalid(app: Flask, tmp_path: Path) -> None:
    lines = [{"username": f"user{number}", "password_hash": stored} for number, stored in enumerate(UNUSABLE)]
    reasons = invalid_lines(app, jsonl_file(tmp_path, *lines))
    for reason, words in zip(reasons.values(), UNUSABLE.values(), strict=True):
        assert words in reason
        assert "hunter2" not in reason
    assert usernames(app) == []
    error_of(run(app, "users", "import", str(csv_file(tmp_path, "bob", header="username")), code=1))


@SQLITE
def test_many_unusable_hashes_are_counted_by_reason(app: Flask, tmp_path: Path) -> None:
    people = [{"username": f"user{number}", "password_hash": "{SSHA}" + "x" * number} for number in range(30)]
    people += [{"username": f"more{number}", "password_hash": f"$1${number}$x"} for number in range(15)]
    shown = run(app, "users", "import", str(jsonl_file(tmp_path, *people)), code=1).stderr.splitlines()
    reason = "The password hash is neither an argon2 hash nor one of bcrypt or Werkzeug"
    assert shown[-2:] == [f"20 more lines: {reason} ({{SSHA}}).", f"5 more lines: {reason} ($1$)."]
    assert len(shown) == 22


@SQLITE
def test_dry_run_and_json_report_name_them(app: Flask, tmp_path: Path) -> None:
    file = csv_file(tmp_path, f"alice,{PASSWORD}", "bob,", "carol,short")
    report = run_json(app, "users", "import", str(file), "--without-password", "--dry-run", code=1)
    reason = "The line has neither a password nor a password_hash."
    assert report["withoutPassword"] == [{"line": 3, "reason": reason}]
    assert report["users"] == ["alice", "bob"]
    assert [line["line"] for line in report["refused"]] == [4]
    assert usernames(app) == []
