"""The columns email and email_verified of an import."""

from pathlib import Path

from flask import Flask

from tests.support.commandline import can_sign_in, create_user, run_json
from tests.support.user_files import CHEAP_HASH, csv_file, invalid_lines, jsonl_file

HEADER = "username,password_hash,email,email_verified"


def test_addresses_are_imported(app: Flask, tmp_path: Path) -> None:
    lines = [
        f"alice,{CHEAP_HASH},Alice@example.com,true",
        f"bob,{CHEAP_HASH},bob@example.com,",
        f"carol,{CHEAP_HASH},,true",
    ]
    run_json(app, "users", "import", str(csv_file(tmp_path, *lines, header=HEADER)))
    assert run_json(app, "users", "show", "alice")["email"] == "Alice@example.com"
    assert can_sign_in(app, "alice@example.com")
    assert not can_sign_in(app, "bob@example.com")
    assert "email" not in run_json(app, "users", "show", "carol")


def test_json_lines_have_addresses(app: Flask, tmp_path: Path) -> None:
    user = {"username": "alice", "password_hash": CHEAP_HASH, "email": "alice@example.com", "email_verified": True}
    run_json(app, "users", "import", str(jsonl_file(tmp_path, user)))
    assert can_sign_in(app, "alice@example.com")


def test_malformed_and_taken_addresses_are_invalid(app: Flask, tmp_path: Path) -> None:
    create_user(app, "taken@example.com")
    lines = [
        f"alice,{CHEAP_HASH},alice@localhost,",
        f"bob,{CHEAP_HASH},Taken@example.com,",
        f"carol,{CHEAP_HASH},same@example.com,",
        f"dora,{CHEAP_HASH},SAME@example.com,",
    ]
    assert list(invalid_lines(app, csv_file(tmp_path, *lines, header=HEADER))) == [2, 3, 5]
