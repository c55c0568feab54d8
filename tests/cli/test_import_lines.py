"""Invalid lines and headers of ``flask users import``."""

import json
import re
from pathlib import Path

import pytest
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.commandline import can_sign_in, create_user, error_of, run
from tests.support.user_files import CHEAP_HASH, csv_file, invalid_lines, jsonl_file, usernames

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
LONG = "x" * 70_000
# Each is line 3 of a file whose lines 2 and 4 are valid.
INVALID_CSV = [
    (b"bob", "1 columns, but the header has 2"),
    (b"bob,a long enough password,", "3 columns, but the header has 2"),
    (b",a long enough password", "1 to 254 characters"),
    (b"bob,", "either a password or a password_hash"),
    (b"bob,too short", "at least 15 characters"),
    (b"bob,bob bob bob bob bob", "too easy to guess"),
    (b"bob," + b"x" * 1025, "at most 1024 bytes"),
    (b"b" * 255 + b",a long enough password", "1 to 254 characters"),
    (b"bob," + LONG.encode(), "longer than 65536 bytes"),
    (b"b\x00b,a long enough password", "control or invisible"),
    (b"bob,a long enough pass\x00word", "NUL"),
    (b"b\xffb,a long enough password", "not UTF-8"),
    (b"b\xed\xa0\x80b,a long enough password", "not UTF-8"),
    (b"alice,another long enough password", "already on line 2"),
    ("ＡＬＩＣＥ,another long enough password".encode(), "already on line 2"),  # noqa: RUF001 -- fullwidth letters
    (b"taken,a long enough password", "is taken"),
    (b"Taken,a long enough password", "is taken"),
]
INVALID_JSONL = [
    (b"[]", "Expected `object`, got `array`"),
    (b'"bob"', "Expected `object`, got `str`"),
    (b"null", "Expected `object`, got `null`"),
    (b"17", "Expected `object`, got `int`"),
    (b"NaN", "not well-formed JSON"),
    (b"{", "not well-formed JSON"),
    (b"bob", "not well-formed JSON"),
    (b'{"username": "bob", "password": "a long enough password"} x', "not well-formed JSON"),
    (b"[" * 60_000, "Expected `object`, got `array`"),
    (b'{"x": ' + b"[" * 60_000, "not well-formed JSON"),
    (b"{}", "missing required field `username`"),
    (b'{"username": "bob"}', "either a password or a password_hash"),
    (b'{"username": "bob", "password": "", "password_hash": null}', "either a password or a password_hash"),
    (b'{"username": 17, "password": "a long enough password"}', "Expected `str`, got `int` - at `$.username`"),
    (b'{"username": "bob", "password": ["x"]}', "Expected `str | null`, got `array` - at `$.password`"),
    (b'{"username": "b\\u0000b", "password": "a long enough password"}', "control or invisible"),
    (b'{"username": "bob", "password": "a long enough pass\\u0000word"}', "NUL"),
    (b'{"username": "b\\ud800b", "password": "a long enough password"}', "lone surrogate"),
    (b'{"username": "bob", "password": "a long enough \\udc00 password"}', "lone surrogate"),
    (b'{"username": "bob", "password": "a long enough \xff password"}', "not UTF-8"),
    (b'{"username": "bob", "password": "' + LONG.encode() + b'"}', "longer than 65536 bytes"),
    (b'{"username": "bob", "password": "' + b"x" * 1025 + b'"}', "at most 1024 bytes"),
    (b'{"username": "bob", "password_hash": "plain text, not a hash"}', "neither an argon2 hash nor"),
    (b'{"username": "bob", "password_hash": "\\u0000"}', "neither an argon2 hash nor"),
    (b'{"username": "alice", "password": "a long enough password"}', "already on line 2"),
    (b'{"username": "taken", "password": "a long enough password"}', "is taken"),
]


@pytest.mark.parametrize(("line", "words"), INVALID_CSV)
@SQLITE
def test_invalid_csv_line_does_not_affect_other_lines(app: Flask, tmp_path: Path, line: bytes, words: str) -> None:
    create_user(app, "taken")
    file = tmp_path / "users.csv"
    file.write_bytes(b"username,password\nalice,%b\n%b\ncarol,%b\n" % (PASSWORD.encode(), line, PASSWORD.encode()))
    ((number, reason),) = invalid_lines(app, file).items()
    assert number == 3
    assert words in reason
    assert usernames(app) == ["alice", "carol", "taken"]


@pytest.mark.parametrize(("line", "words"), INVALID_JSONL)
@SQLITE
def test_invalid_json_line_does_not_affect_other_lines(app: Flask, tmp_path: Path, line: bytes, words: str) -> None:
    create_user(app, "taken")
    good = [json.dumps({"username": name, "password": PASSWORD}).encode() for name in ("alice", "carol")]
    file = tmp_path / "users.jsonl"
    file.write_bytes(b"\n".join([b"", good[0], line, good[1]]))
    ((number, reason),) = invalid_lines(app, file).items()
    assert number == 3
    assert words in reason
    assert usernames(app) == ["alice", "carol", "taken"]


def test_taken_names_are_reported_among_many(app: Flask, tmp_path: Path) -> None:
    names = [f"user{number:04}" for number in range(1201)]
    for name in (names[0], names[600], names[1200]):
        create_user(app, name)
    file = csv_file(tmp_path, *(f"{name},{CHEAP_HASH}" for name in names), header="username,password_hash")
    assert list(invalid_lines(app, file)) == [2, 602, 1202]
    assert usernames(app) == names


def test_reason_does_not_repeat_the_text_of_the_line(app: Flask, tmp_path: Path) -> None:
    secret = "my secret 123"
    broken_hash = CHEAP_HASH[:-1] + "!"
    lines = [{"username": "alice", "password": secret}, {"username": "bob", "password_hash": broken_hash}, [secret]]
    shown = run(app, "users", "import", str(jsonl_file(tmp_path, *lines)), code=1).output
    shown += run(app, "users", "import", str(csv_file(tmp_path, f"alice,{secret}", secret)), code=1).output
    shown += run(app, "users", "import", str(csv_file(tmp_path, f'bob,"{secret}')), code=1).output
    assert len(re.findall(r"(?m)^line \d", shown)) == 6
    assert secret not in shown
    assert broken_hash not in shown


def test_byte_order_mark_blank_lines_and_windows_line_ends_are_accepted(app: Flask, tmp_path: Path) -> None:
    text = f"\ufeff\r\nUserName , PASSWORD\r\n\r\n  \r\nalice,{PASSWORD}\r\nbob,short\r\n\r\n"
    (tmp_path / "users.csv").write_text(text, newline="")
    assert list(invalid_lines(app, tmp_path / "users.csv")) == [6]
    (tmp_path / "users.jsonl").write_text('\ufeff{"username": "carol", "password": "%s"}' % PASSWORD)  # noqa: UP031 -- braces
    run(app, "users", "import", str(tmp_path / "users.jsonl"))
    assert can_sign_in(app, "alice")
    assert can_sign_in(app, "carol")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"username",
        b"password",
        b"user,password",
        b"username,username,password",
        b"username,password,password",
        b"username,passwort",
        b"\xff\xfeu\x00s\x00e\x00r",
        b'"username,password',
        b"alice,a long enough password",
        b"x" * 70_000,
        b'{"username": "alice", "password": "a long enough password"}',
    ],
)
@SQLITE
def test_invalid_header_stops_the_import(app: Flask, tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "users.csv"
    file.write_bytes(header + b"\n" if header else b"")
    result = run(app, "users", "import", str(file), code=1)
    assert error_of(result).startswith("Line 1 must be a header with username and password or password_hash")
    assert result.stdout == ""
    assert usernames(app) == []
