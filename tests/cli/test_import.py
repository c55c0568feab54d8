"""``flask users import``: people who move here, with their passwords or with hashes made elsewhere."""

import json
import re
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from argon2 import PasswordHasher, Type
from argon2.low_level import hash_secret
from flask import Flask
from werkzeug.security import generate_password_hash

from tests.support.app import PASSWORD
from tests.support.commandline import (
    NEW_PASSWORD,
    Terminal,
    check_discretion,
    create_user,
    error_of,
    run,
    run_json,
    sign_in,
)
from tests.support.server import run_flask
from tokenapp import db, passwords
from tokenapp.models import User

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
cheap = partial(PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
HASHES = {
    "argon2id": cheap().hash(PASSWORD),
    "argon2i": cheap(type=Type.I).hash(PASSWORD),
    "argon2d": cheap(type=Type.D).hash(PASSWORD),
    "argon2id of version 16": hash_secret(PASSWORD.encode(), b"salty salt", 1, 8, 1, 32, Type.ID, 16).decode(),
    "argon2 at its usual cost": PasswordHasher().hash(PASSWORD),
    "scrypt": generate_password_hash(PASSWORD, "scrypt:1024:8:1"),
    "scrypt at its usual cost": generate_password_hash(PASSWORD),
    "pbkdf2": generate_password_hash(PASSWORD, "pbkdf2:sha256:1000"),
    "pbkdf2 with sha512": generate_password_hash(PASSWORD, "pbkdf2:sha512:1000"),
    "pbkdf2 with sha1": generate_password_hash(PASSWORD, "pbkdf2:sha1:1000", salt_length=8),
}
SOME_HASH = HASHES["pbkdf2"]


def names(app: Flask) -> list[str]:
    """Return the names of all users."""
    return [user["username"] for user in run_json(app, "users", "list")]


def stored_hash(app: Flask, username: str) -> str:
    """Return the hash that is stored for a user."""

    def read() -> str:
        with app.app_context(), db.reading() as session:
            return session.scalars(sa.select(User.password_hash).where(User.username == username)).one()

    return Context().run(read)


def refusals(app: Flask, file: Path, *options: str) -> dict[int, str]:
    """Import a file in which something is wrong; return the reasons by line."""
    report = run_json(app, "users", "import", str(file), *options, code=1)
    return {refused["line"]: refused["reason"] for refused in report["refused"]}


def csv_file(folder: Path, *lines: str, header: str = "username,password", name: str = "users.csv") -> Path:
    """Write a CSV file."""
    file = folder / name
    file.write_text("".join(line + "\n" for line in (header, *lines)))
    return file


def jsonl_file(folder: Path, *objects: Any) -> Path:
    """Write a file of JSON lines."""
    file = folder / "users.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in objects))
    return file


@pytest.mark.parametrize("kind", HASHES)
def test_a_ready_made_hash_signs_in_and_that_sign_in_upgrades_it(app: Flask, tmp_path: Path, kind: str) -> None:
    file = csv_file(tmp_path, f'alice,"{HASHES[kind]}"', header="username,password_hash")
    assert run(app, "users", "import", str(file)).stdout == "imported 1, refused 0\n"
    assert stored_hash(app, "alice") == HASHES[kind]
    assert sign_in(app, password=NEW_PASSWORD) is None
    assert sign_in(app)
    assert stored_hash(app, "alice").startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert sign_in(app)


def test_csv_and_json_lines_import_the_same_people(app: Flask, tmp_path: Path) -> None:
    first = csv_file(
        tmp_path, f"alice,{PASSWORD},,1", f"bob,,{SOME_HASH},2", header="username,password,password_hash,extra"
    )
    second = jsonl_file(
        tmp_path,
        {"username": "carol", "password": PASSWORD, "extra": [1]},
        {"username": "dave", "password_hash": SOME_HASH, "password": None},
    )
    for file in (first, second):
        assert run(app, "users", "import", str(file)).stdout == "imported 2, refused 0\n"
    assert all(sign_in(app, name) for name in ("alice", "bob", "carol", "dave"))


def test_good_lines_are_imported_though_others_are_refused(app: Flask, tmp_path: Path) -> None:
    file = csv_file(tmp_path, f"alice,{PASSWORD}", "bob,too short", f"carol,{PASSWORD}")
    result = run(app, "users", "import", str(file), code=1)
    assert result.stdout == "imported 2, refused 1\n"
    assert result.stderr == "line 3: The password must have at least 15 characters.\n"
    assert names(app) == ["alice", "carol"]


LONG = "x" * 70_000
# Every one of these stands in line 3 of a file whose lines 2 and 4 are good.
BAD_CSV = [
    (b"bob", "1 columns where the header has 2"),
    (b"bob,a long enough password,", "3 columns where the header has 2"),
    (b",a long enough password", "1 to 64 characters"),
    (b"bob,", "either a password or a password_hash"),
    (b"bob,too short", "at least 15 characters"),
    (b"bob,bob has a long password", "contain the user name"),
    (b"bob," + b"x" * 1025, "at most 1024 bytes"),
    (b"b" * 65 + b",a long enough password", "1 to 64 characters"),
    (b"bob," + LONG.encode(), "longer than 65536 bytes"),
    (b"b\x00b,a long enough password", "control or invisible"),
    (b"bob,a long enough pass\x00word", "NUL"),
    (b"b\xffb,a long enough password", "not UTF-8"),
    (b"b\xed\xa0\x80b,a long enough password", "not UTF-8"),
    (b'"bob,a long enough password', "not well-formed CSV"),
    (b'"bob"x,a long enough password', "not well-formed CSV"),
    (b"bob,a long\renough password", "not well-formed CSV"),
    (b"alice,another long enough password", "on line 2 already"),
    ("ＡＬＩＣＥ,another long enough password".encode(), "on line 2 already"),  # noqa: RUF001 -- another spelling
    (b"taken,a long enough password", "is taken"),
    (b"Taken,a long enough password", "is taken"),
]
BAD_JSONL = [
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
    (b'{"username": "bob", "password_hash": "plain text, not a hash"}', "neither argon2 nor"),
    (b'{"username": "bob", "password_hash": "\\u0000"}', "neither argon2 nor"),
    (b'{"username": "alice", "password": "a long enough password"}', "on line 2 already"),
    (b'{"username": "taken", "password": "a long enough password"}', "is taken"),
]


@pytest.mark.parametrize(("line", "words"), BAD_CSV)
@SQLITE
def test_a_bad_line_of_csv_is_refused_by_itself(app: Flask, tmp_path: Path, line: bytes, words: str) -> None:
    create_user(app, "taken")
    file = tmp_path / "users.csv"
    file.write_bytes(b"username,password\nalice,%b\n%b\ncarol,%b\n" % (PASSWORD.encode(), line, PASSWORD.encode()))
    ((number, reason),) = refusals(app, file).items()
    assert number == 3
    assert words in reason
    assert names(app) == ["alice", "carol", "taken"]


@pytest.mark.parametrize(("line", "words"), BAD_JSONL)
@SQLITE
def test_a_bad_json_line_is_refused_by_itself(app: Flask, tmp_path: Path, line: bytes, words: str) -> None:
    create_user(app, "taken")
    good = [json.dumps({"username": name, "password": PASSWORD}).encode() for name in ("alice", "carol")]
    file = tmp_path / "users.jsonl"
    file.write_bytes(b"\n".join([b"", good[0], line, good[1]]))
    ((number, reason),) = refusals(app, file).items()
    assert number == 3
    assert words in reason
    assert names(app) == ["alice", "carol", "taken"]


def test_taken_names_are_refused_among_many(app: Flask, tmp_path: Path) -> None:
    everyone = [f"user{number:04}" for number in range(1201)]
    for name in (everyone[0], everyone[600], everyone[1200]):
        create_user(app, name)
    file = csv_file(tmp_path, *(f"{name},{SOME_HASH}" for name in everyone), header="username,password_hash")
    assert list(refusals(app, file)) == [2, 602, 1202]
    assert names(app) == everyone


def test_a_reason_never_repeats_what_stood_in_the_line(app: Flask, tmp_path: Path) -> None:
    secret = "my secret 123"
    broken_hash = SOME_HASH[:-1] + "!"
    lines = [{"username": "alice", "password": secret}, {"username": "bob", "password_hash": broken_hash}, [secret]]
    shown = run(app, "users", "import", str(jsonl_file(tmp_path, *lines)), code=1).output
    shown += run(app, "users", "import", str(csv_file(tmp_path, f"alice,{secret}", f'"{secret}')), code=1).output
    assert len(re.findall(r"(?m)^line \d", shown)) == 5
    assert secret not in shown
    assert broken_hash not in shown


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_matter(app: Flask, tmp_path: Path) -> None:
    text = f"\ufeff\r\nUserName , PASSWORD\r\n\r\n  \r\nalice,{PASSWORD}\r\nbob,short\r\n\r\n"
    (tmp_path / "users.csv").write_text(text, newline="")
    assert list(refusals(app, tmp_path / "users.csv")) == [6]
    (tmp_path / "users.jsonl").write_text('\ufeff{"username": "carol", "password": "%s"}' % PASSWORD)  # noqa: UP031 -- braces
    run(app, "users", "import", str(tmp_path / "users.jsonl"))
    assert sign_in(app, "alice")
    assert sign_in(app, "carol")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"username",
        b"password",
        b"user,password",
        b"username;password",
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
def test_a_wrong_header_stops_the_import(app: Flask, tmp_path: Path, header: bytes) -> None:
    file = tmp_path / "users.csv"
    file.write_bytes(header + b"\n" if header else b"")
    result = run(app, "users", "import", str(file), code=1)
    assert error_of(result).startswith("Line 1 is no header: it must name username and password or password_hash")
    assert result.stdout == ""
    assert names(app) == []


@SQLITE
def test_a_file_without_json_lines_imports_nobody(app: Flask, tmp_path: Path) -> None:
    assert run(app, "users", "import", str(jsonl_file(tmp_path))).stdout == "imported 0, refused 0\n"


def test_users_come_from_standard_input_too(app: Flask, tmp_path: Path) -> None:
    content = csv_file(tmp_path, f"alice,{PASSWORD}").read_bytes()
    assert run(app, "users", "import", "-", "--format", "csv", stdin=content).stdout == "imported 1, refused 0\n"
    assert sign_in(app)


@pytest.mark.parametrize("name", ["-", "users", "users.txt", "users.csv.bak"])
@SQLITE
def test_a_format_that_cannot_be_told_must_be_given(app: Flask, tmp_path: Path, name: str) -> None:
    file = "-" if name == "-" else str(csv_file(tmp_path, f"alice,{PASSWORD}", name=name))
    assert "give --format" in run(app, "users", "import", file, code=2).stderr
    assert names(app) == []


@pytest.mark.parametrize("name", ["users.CSV", "a.b.csv"])
@SQLITE
def test_the_ending_tells_the_format(app: Flask, tmp_path: Path, name: str) -> None:
    run(app, "users", "import", str(csv_file(tmp_path, f"alice,{PASSWORD}", name=name)))
    assert names(app) == ["alice"]


@SQLITE
def test_the_option_overrules_the_ending(app: Flask, tmp_path: Path) -> None:
    file = csv_file(tmp_path, f"alice,{PASSWORD}", name="users.jsonl")
    run(app, "users", "import", str(file), "--format", "csv")
    assert names(app) == ["alice"]


@SQLITE
def test_a_file_that_cannot_be_read_is_an_error(app: Flask, tmp_path: Path) -> None:
    assert "No such file" in run(app, "users", "import", str(tmp_path / "none.csv"), code=2).stderr
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "Is a directory" in run(app, "users", "import", str(folder), code=2).stderr
    assert "Input/output error" in error_of(run(app, "users", "import", "/proc/self/mem", "--format", "csv", code=1))


def test_a_dry_run_tells_the_same_and_writes_nothing(app: Flask, tmp_path: Path) -> None:
    create_user(app, "taken")
    file = csv_file(tmp_path, f"alice,{PASSWORD}", "bob,short", f"taken,{PASSWORD}", f"alice,{PASSWORD}")
    result = run(app, "users", "import", str(file), "--dry-run", code=1)
    assert result.stdout == "would import 1, would refuse 3\n"
    assert names(app) == ["taken"]
    assert run(app, "users", "import", str(file), code=1).stderr == result.stderr
    assert names(app) == ["alice", "taken"]


def test_a_dry_run_of_good_lines_exits_with_0(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(csv_file(tmp_path, f"alice,{PASSWORD}")), "--dry-run")
    assert names(app) == []


def test_the_report_as_json_holds_all_of_it(app: Flask, tmp_path: Path) -> None:
    file = csv_file(tmp_path, f"alice,{PASSWORD}", "bob,short")
    result = run(app, "users", "import", str(file), "--json", "--dry-run", code=1)
    reason = "The password must have at least 15 characters."
    assert json.loads(result.stdout) == {"imported": 1, "refused": [{"line": 3, "reason": reason}], "dryRun": True}
    assert result.stderr == ""
    assert run_json(app, "users", "import", str(file), code=1)["dryRun"] is False


def test_ten_thousand_ready_made_hashes_are_imported_at_once(app: Flask, database_url: str, tmp_path: Path) -> None:
    usual = [HASHES["argon2 at its usual cost"], HASHES["scrypt at its usual cost"], HASHES["pbkdf2"]]
    people = [{"username": f"user{number:05}", "password_hash": usual[number % 3]} for number in range(10_000)]
    ended = run_flask(database_url, "users", "import", str(jsonl_file(tmp_path, *people)))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "imported 10000, refused 0\n", "")
    assert len(names(app)) == 10_000


SLOW = {"TOKENAPP_PASSWORD_PASSES": "100", "TOKENAPP_PASSWORD_MEMORY": "8192"}


def test_an_interrupted_import_writes_nothing(app: Flask, database_url: str, tmp_path: Path) -> None:
    people = [f"alice,{SOME_HASH},", *(f"user{number},,{PASSWORD}" for number in range(1000))]
    file = csv_file(tmp_path, *people, header="username,password_hash,password")
    with Terminal(database_url, "users", "import", str(file), **SLOW) as terminal:
        terminal.wait_for("Preparing users")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Error: interrupted" in terminal.shown
    assert names(app) == []


def test_a_name_taken_meanwhile_stops_the_whole_import(app: Flask, database_url: str, tmp_path: Path) -> None:
    file = csv_file(tmp_path, *(f"user{number},{PASSWORD}" for number in range(3)))
    with Terminal(database_url, "users", "import", str(file), **SLOW) as terminal:
        terminal.wait_for("Preparing users")
        create_user(app, "user2")
        assert terminal.end() == 1
    assert "Error: A name was taken meanwhile. Nothing was imported: please try again." in terminal.shown
    assert names(app) == ["user2"]


@SQLITE
def test_an_error_in_the_midst_of_writing_leaves_nothing_behind(app: Flask, tmp_path: Path) -> None:
    create_user(app, "before")
    with app.app_context(), db.writing() as session:
        trigger = "BEFORE INSERT ON users WHEN (SELECT count(*) FROM users) > 1500"
        session.execute(sa.text(f"CREATE TRIGGER full {trigger} BEGIN SELECT no_such_function(); END"))
    file = csv_file(tmp_path, *(f"user{number},{SOME_HASH}" for number in range(2000)), header="username,password_hash")
    assert "no_such_function" in error_of(run(app, "users", "import", str(file), code=1))
    assert names(app) == ["before"]


@SQLITE
def test_the_bar_is_for_terminals_only(app: Flask, database_url: str, tmp_path: Path) -> None:
    file = str(csv_file(tmp_path, f"alice,{PASSWORD}"))
    with Terminal(database_url, "users", "import", file) as terminal:
        assert terminal.end() == 0
    assert "100%" in terminal.shown
    assert "imported 1, refused 0" in terminal.shown
    piped = run_flask(database_url, "users", "import", file, FORCE_COLOR="1", TTY_COMPATIBLE="1")
    assert (piped.returncode, piped.stdout) == (1, "imported 0, refused 1\n")
    assert piped.stderr == "line 2: The user name is taken.\n"
    check_discretion(piped.stdout + piped.stderr)
    assert sign_in(app)


BASE64 = "c29tZSBzYWx0IGhlcmU"
NO_HASHES = [
    "",
    "plain",
    "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
    "$2b$12$abcdefghijklmnopqrstuuJ1g6hS8Yp5oZ1gV1bR1qYy7oQ0pS5bK",
    "scrypt:32768:8:1$salt",
    "scrypt:32768:8:1$salt$" + "0" * 127,
    "scrypt:32768:8:1$salt$" + "G" * 128,
    "scrypt:32768:8:1$$" + "0" * 128,
    "scrypt:30000:8:1$salt$" + "0" * 128,
    "scrypt:1:8:1$salt$" + "0" * 128,
    "scrypt:32768:0:1$salt$" + "0" * 128,
    "scrypt:4194304:8:1$salt$" + "0" * 128,
    "scrypt:32768:8$salt$" + "0" * 128,
    "scrypt:32768:8:1$s\xe4lt$" + "0" * 128,
    "pbkdf2:sha256:1000$salt$" + "0" * 63,
    "pbkdf2:sha256:1000$salt$" + "A" * 64,
    "pbkdf2:sha256:1000$salt$" + "\u0660" * 64,
    "pbkdf2:sha256:0$salt$" + "0" * 64,
    "pbkdf2:sha256:99999999$salt$" + "0" * 64,
    "pbkdf2:md5:1000$salt$" + "0" * 32,
    "pbkdf2:nonsense:1000$salt$" + "0" * 64,
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}$",
    f"$argon2id$v=19$m=8,t=0,p=1${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=0${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=2${BASE64}${BASE64}",
    f"$argon2id$v=19$m=2000000,t=1,p=1${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1000,p=1${BASE64}${BASE64}",
    f"$argon2id$v=20$m=8,t=1,p=1${BASE64}${BASE64}",
    f"$argon2x$v=19$m=8,t=1,p=1${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}=",
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64[:-1]}V",  # a second spelling of the same bytes
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}AA",
    f" $argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}",
    f"$argon2id$v=19$m=8,t=1,p=1${BASE64}${BASE64}\n",
]


@pytest.mark.parametrize("text", NO_HASHES)
def test_what_sign_in_could_not_verify_is_no_hash(text: str) -> None:
    assert not passwords.is_hash(text)


@pytest.mark.parametrize("kind", [kind for kind in HASHES if "usual" not in kind])
@SQLITE
def test_whatever_passes_as_a_hash_can_be_verified(app: Flask, kind: str) -> None:
    """Each spoilt character is refused, or leaves a hash that sign-in can read and finds wrong: never an error."""
    good = HASHES[kind]
    spoilt = {good[:place] + char + good[place + 1 :] for place in range(len(good)) for char in "1$:=Z"} - {good}
    with app.app_context():
        check = partial(passwords.verify, password=PASSWORD)
        assert check(good)
        assert not any(check(text) for text in spoilt if passwords.is_hash(text))
